"""From folders of pictures to batches: find, read, decode, split, prepare, augment.

Only :mod:`~squeezekit.data.loader` and :mod:`~squeezekit.data.augment` import torch; what predicts needs
neither.
"""
