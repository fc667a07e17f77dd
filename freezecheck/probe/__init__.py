"""Look at a model, train it a step, and leave no trace."""
