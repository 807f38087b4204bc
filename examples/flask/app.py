"""The oldest tutorial: a form, a button, a prediction. Only the two lines with `was` are new."""

import os

import numpy as np
from flask import Flask, jsonify, render_template_string, request

from artifact import load  # was: import pickle

app = Flask(__name__)
model = load(os.environ["MODEL"])  # was: model = pickle.load(open("model.pkl", "rb"))

PAGE = """<!doctype html><title>Predict</title>
<form action="/predict" method="post">
<label>Sepal length <input name="sepal_length" required></label><br>
<label>Sepal width <input name="sepal_width" required></label><br>
<label>Petal length <input name="petal_length" required></label><br>
<label>Petal width <input name="petal_width" required></label><br>
<button>Predict</button></form><p>{{ prediction_text }}</p>"""


@app.route("/")
def home():
    return render_template_string(PAGE)


@app.route("/predict", methods=["POST"])
def predict():
    features = [float(value) for value in request.form.values()]
    prediction = model.predict([np.array(features)])
    text = f"The prediction is {prediction[0]}"
    return render_template_string(PAGE, prediction_text=text)


@app.route("/results", methods=["POST"])
def results():
    data = request.get_json(force=True)
    prediction = model.predict([np.array(list(data.values()))])
    return jsonify(prediction[0])
