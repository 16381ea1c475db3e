"""Records of a study in TensorBoard, MLflow and Weights & Biases; each is imported when it is asked for."""
