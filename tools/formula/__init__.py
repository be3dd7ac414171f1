"""Pictures that come out of formulas, in a few hundred classes, to pretrain on without any photo.

A class is a set of drawn parameters (the maps of a fractal, the skeleton of a glyph); its pictures
vary them a little. Every family draws grey pictures, light on black; `compose` gives them colour,
background, place, size, blur and noise anew each time that they are shown.

    fractals   iterated function systems        (Kataoka et al. 2020, arXiv 2101.08515)
    textures   noise bands, gratings, cells
    outlines   polygons, stars, rings, silhouettes
    strokes    glyph-like curves
    catalogue  which classes there are; the pictures of one class, kept on disk
    compose    from a grey picture to one in colour
"""
