"""Training: the head first, then the backbone; a run begins, and an interrupted one goes on."""
