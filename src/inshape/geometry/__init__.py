"""Pure arithmetic on a network's graph: map sizes, receptive fields, cost. No Keras."""
