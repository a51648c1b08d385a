"""A trained model in the forms of other tools: ONNX graphs, a folder for a model hub, a live plugin."""
