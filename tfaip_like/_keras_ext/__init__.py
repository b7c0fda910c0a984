"""Extensions of Keras: optimizers, schedules, metrics and checks that Keras lacks."""
