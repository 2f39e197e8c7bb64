"""The papers' studies, each on any pictures: networks that differ in one thing, trained alike, side by side.

===================  =================================================================================
`study`              what a study is: variants, and what the paper claims of them
`microarchitecture`  SqueezeNet, figure 3: squeeze ratio, share of 3×3 filters
`bypass`             SqueezeNet, table 3
`strategies`         SqueezeNet, section 3.1, each strategy taken away by itself
`scaling`            EfficientNet, figures 3 and 8
`multipliers`        MobileNet, tables 6 and 7
`compression`        SqueezeNet, table 2
`run`                runs one: rows that no kill can lose, then table, figure and text
`verdicts`           means over the seeds, and whether they agree with the claims
===================  =================================================================================
"""
