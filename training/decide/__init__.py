"""Which model is best: figures, the gate, promotion, live quality."""
