"""What training minimises: cross-entropy with the labels, smoothed if wanted, and with a teacher's probabilities."""

import tensorflow as tf

from transfer.recipe import Recipe


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Logits (N, classes), labels (N,) -> (N,)."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def training_losses(logits: tf.Tensor, labels: tf.Tensor, taught: tf.Tensor, recipe: Recipe) -> tf.Tensor:
    """The loss of each image, (N,).

    Label smoothing shares `recipe.label_smoothing` of a label among all classes, so that no image asks for infinite
    logits (Szegedy and others, "Rethinking the Inception architecture for computer vision", 2015, section 7).

    taught: a teacher's logits (N, classes), which make up `recipe.teacher_share` of the loss; (N, 0) without a teacher.
    Both sides are divided by `recipe.temperature` first, which brings out how the teacher ranks the unlikely classes.
    That divides the gradients by its square, so they are multiplied by it again (Hinton, Vinyals and Dean, "Distilling
    the knowledge in a neural network", 2015).
    """
    losses = cross_entropy(logits, labels)
    if recipe.label_smoothing:
        evenly = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=1)
        losses += recipe.label_smoothing * (evenly - losses)
    if recipe.teacher_share:
        soft_labels = tf.nn.softmax(taught / recipe.temperature)
        soft = tf.nn.softmax_cross_entropy_with_logits(soft_labels, logits / recipe.temperature)
        losses += recipe.teacher_share * (recipe.temperature**2 * soft - losses)
    return losses
