"""What a label, a head, a loss, a score and an answer are; the other rooms only hand a task on."""
