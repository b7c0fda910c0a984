"""Classification of short reports, of the weather or of the stock market: plain Keras and tf.data."""

import sys

import keras
import numpy as np
import tensorflow as tf

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 1
TRAINED = 1600
COMMON = "a the and in of today again this week low high pressure falls rises turns strong weak steady"
TOPICS = ["rain wind clouds north storm sun frost", "shares bank index trade bonds profit north"]


def reports(count: int = 2000) -> tuple[list[str], np.ndarray]:
    """Return texts of mostly common words, and their topic."""
    random = np.random.default_rng(0)
    topics = random.integers(0, 2, count)
    texts = []
    for topic in topics:
        few = random.choice(TOPICS[topic].split(), random.integers(1, 4))
        other = random.choice(TOPICS[1 - topic].split(), random.integers(0, 2))
        texts.append(" ".join(random.permutation([*few, *other, *random.choice(COMMON.split(), 15)])))
    return texts, topics.astype("float32")


keras.utils.set_random_seed(SEED)
texts, topics = reports()
train = tf.data.Dataset.from_tensor_slices((texts[:TRAINED], topics[:TRAINED])).shuffle(TRAINED).batch(32)
val = tf.data.Dataset.from_tensor_slices((texts[TRAINED:], topics[TRAINED:])).batch(32)

vectorize = keras.layers.TextVectorization(max_tokens=1000, output_sequence_length=20)
vectorize.adapt(train.map(lambda text, topic: text))

tokens = keras.Input((20,), dtype="int64")
hidden = keras.layers.Embedding(1000, 16)(tokens)
hidden = keras.layers.Conv1D(16, 3, activation="relu")(hidden)
hidden = keras.layers.Dropout(0.3)(keras.layers.GlobalMaxPooling1D()(hidden))
classifier = keras.Model(tokens, keras.layers.Dense(1, activation="sigmoid", name="topic")(hidden))
classifier.compile(keras.optimizers.Adam(0.003), loss="binary_crossentropy", metrics=["accuracy"])
classifier.fit(
    train.map(lambda text, topic: (vectorize(text), topic)).cache().prefetch(tf.data.AUTOTUNE),
    epochs=15,
    validation_data=val.map(lambda text, topic: (vectorize(text), topic)).cache().prefetch(tf.data.AUTOTUNE),
    callbacks=[
        keras.callbacks.EarlyStopping("val_accuracy", patience=5, mode="max", restore_best_weights=True),
        keras.callbacks.CSVLogger("texts.csv"),
    ],
    verbose=2,
)

text = keras.Input((), dtype="string")
end_to_end = keras.Model(text, classifier(vectorize(text)))  # accepts texts
end_to_end.compile(loss="binary_crossentropy", metrics=["accuracy"])
end_to_end.save("texts.keras")
print(end_to_end.predict(tf.constant(["strong wind and rain in the north"]), verbose=0))
print(f"result: {end_to_end.evaluate(val, verbose=0, return_dict=True)['accuracy']:.4f}")
