"""How fitted predictors that our own families do not have become nodes of an ONNX graph."""
