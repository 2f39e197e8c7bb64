"""What a person looks at after a run: plots, sheets, a page, and tables for the terminal.

This room knows only numbers, names and pictures; never a network, a data set or a file format of ours.

================  =====================================================================================
`prediction`      `Prediction`: one picture and what a classifier said about it
`numbers`         per-class precision and recall, calibration, intervals: plain arithmetic on counts
`style`           the one look: two palettes, fonts, how a name or a number is written
`plots`           matplotlib figures: learning curves, confusion matrix, reliability, per-class bars
`sheet`           predictions drawn onto one picture (Pillow only: works in the small install)
`html`            `RunReport` and `write_report`: a run on one page, in one file
`tables`          Rich tables for the terminal
================  =====================================================================================

Nothing is imported here, so that a command pays only for what it shows.
"""
