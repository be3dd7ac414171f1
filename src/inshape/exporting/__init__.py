"""Files that other runtimes read, each compared with the Keras model on real pictures.

The front door is `inshape.exporting.api.export`, which the package offers as ``inshape.export``. It
is not imported here, so that timing a file imports no framework.
"""
