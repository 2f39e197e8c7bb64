"""Which small network is best for these pictures and this budget?

SqueezeNet's paper answers by design space exploration (arXiv:1602.07360, sections 5 and 6), EfficientNet's by
compound scaling (arXiv:1905.11946, section 3). Both are here, on the user's own pictures.

==========  ===========================================================================================
`design`    `Design`: a network and the side of its pictures, and the command that trains it
`short`     `ShortTraining`: many networks, trained briefly on the same pictures
`explore`   the search: `space`, `budget`, `objective`, `sampler`, `halving`, `storage`, `results`, `page`
`counting`  what a design costs, without a network; `latency`: measured in the engine
`studies`   the papers' studies, one command each
`scaling`   `compound`: depth, width and resolution together (EfficientNet's equation 3), mended to 2^φ
==========  ===========================================================================================
"""
