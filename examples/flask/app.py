"""The oldest tutorial: a form, a button, a prediction. Only the line that loads the model is new."""

import os

import numpy as np
from flask import Flask, jsonify, render_template_string, request

from artifact import load

app = Flask(__name__)
model = load(os.environ["MODEL"])  # was: pickle.load(open("model.pkl", "rb"))

PAGE = """<!doctype html><title>Predict</title>
<form action="/predict" method="post">
{% for name in names %}<label>{{ name }} <input name="{{ name }}" required></label><br>{% endfor %}
<button>Predict</button></form><p>{{ prediction_text }}</p>"""


@app.route("/")
def home():
    return render_template_string(PAGE, names=model.signature.names, prediction_text="")


@app.route("/predict", methods=["POST"])
def predict():
    features = [float(value) for value in request.form.values()]
    prediction = model.predict([np.array(features)])
    text = f"The prediction is {prediction[0]}"
    return render_template_string(PAGE, names=model.signature.names, prediction_text=text)


@app.route("/results", methods=["POST"])
def results():
    data = request.get_json(force=True)
    prediction = model.predict([np.array(list(data.values()))])
    return jsonify(prediction[0])
