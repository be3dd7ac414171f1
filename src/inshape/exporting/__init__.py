"""Files that other runtimes read, each compared with the Keras model on real pictures.

`inshape.exporting.api.export` is not imported here, so that timing a file imports no framework.
"""
