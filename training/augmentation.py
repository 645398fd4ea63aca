"""temporary"""
import numpy as np
import tensorflow as tf
CHANCES = 7
def chances(count, seed, epoch):
    return np.random.default_rng([seed, epoch]).random((count, CHANCES), dtype=np.float32)
def augment(pictures, chance, flip=False):
    x = tf.cast(pictures, tf.float32)
    h, w = tf.cast(tf.shape(x)[1], tf.float32), tf.cast(tf.shape(x)[2], tf.float32)
    c = 2 * chance - 1
    s = 1 + 0.1 * c[:, 0]; a = c[:, 1] * 0.17
    dx, dy = 0.1 * w * c[:, 2], 0.1 * h * c[:, 3]
    cos, sin = tf.cos(a) * s, tf.sin(a) * s
    m = tf.where(chance[:, 4] < 0.5, -1.0, 1.0) if flip else tf.ones_like(s)
    cx, cy = (w - 1) / 2, (h - 1) / 2
    a0, a1, b0, b1 = cos * m, -sin, sin * m, cos
    t = tf.stack([a0, a1, cx + dx - a0 * cx - a1 * cy, b0, b1, cy + dy - b0 * cx - b1 * cy, 0*s, 0*s], 1)
    x = tf.raw_ops.ImageProjectiveTransformV3(images=x, transforms=t, output_shape=tf.shape(x)[1:3], fill_value=0.0, interpolation="BILINEAR", fill_mode="NEAREST")
    light = lambda v: v[:, None, None, None]
    x = (x - 128) * light(1 + 0.3 * c[:, 5]) + 128 + light(40 * c[:, 6])
    return tf.clip_by_value(x, 0, 255)
