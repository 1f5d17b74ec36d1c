"""Labels learned from features of samples, tested on samples that were kept apart, and given to new samples.

options       what can be asked
splits        which samples train and which test
features      genes, CAGs or factors; the best of them, chosen from training samples alone
forests       random forests as arrays
linear        balanced logistic regression as arrays
boosting      LightGBM, where it is installed
models        one way to fit, score and store all of them
calibration   scores as probabilities
scoring       precision, recall, F1, AUC
folds         the task of one fold
training      the library call ``classify``
answers       what a model says of samples
results       files of a classification
balance       synthetic samples of rare labels
gan           a small generative network that makes some of them
augmentation  the library call ``augment``: whether these help
aggregation   CAGs of a model, made of the genes of another cohort
prediction    the library call ``predict``
neighbors     the most similar labelled samples
"""
