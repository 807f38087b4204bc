"""Fitted pipelines as ONNX graphs."""
