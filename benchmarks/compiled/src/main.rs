//! One model behind axum, in one thread, row by row: what a careful engineer gets by leaving Python.
//!
//! `okamochi-compiled PORT model.onnx float32|float64 WIDTH CLASSES`, with onnxruntime's shared library named by
//! `ORT_DYLIB_PATH`. The graph takes "X" of shape (rows, WIDTH) and gives "scores" of shape (rows, CLASSES); the
//! answer is the index of the highest score, the label of the benchmark's models.

use std::sync::{Arc, Mutex};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use ort::{session::Session, value::Tensor};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Request {
    features: Vec<Vec<f64>>,
}

#[derive(Serialize)]
struct Answer {
    prediction: Vec<usize>,
}

struct Model {
    session: Mutex<Session>,
    single: bool,
    width: usize,
    classes: usize,
}

type Refusal = (StatusCode, String);

impl Model {
    fn predict(&self, row: &[f64]) -> ort::Result<usize> {
        let shape = [1usize, self.width];
        let mut session = self.session.lock().expect("one thread");
        if self.single {
            let values: Vec<f32> = row.iter().map(|value| *value as f32).collect();
            let outputs = session.run(ort::inputs!["X" => Tensor::from_array((shape, values))?])?;
            Ok(highest(outputs["scores"].try_extract_tensor::<f32>()?.1, self.classes))
        } else {
            let outputs = session.run(ort::inputs!["X" => Tensor::from_array((shape, row.to_vec()))?])?;
            Ok(highest(outputs["scores"].try_extract_tensor::<f64>()?.1, self.classes))
        }
    }
}

fn highest<T: PartialOrd>(scores: &[T], classes: usize) -> usize {
    (1..classes).fold(0, |best, i| if scores[i] > scores[best] { i } else { best })
}

async fn predict(State(model): State<Arc<Model>>, Json(request): Json<Request>) -> Result<Json<Answer>, Refusal> {
    let mut prediction = Vec::with_capacity(request.features.len());
    for row in &request.features {
        if row.len() != model.width {
            let detail = format!("a row has {} values, expected {}", row.len(), model.width);
            return Err((StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
        let label = model.predict(row).map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        prediction.push(label);
    }
    Ok(Json(Answer { prediction }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, port, path, precision, width, classes] = arguments.as_slice() else {
        return Err("usage: okamochi-compiled PORT model.onnx float32|float64 WIDTH CLASSES".into());
    };
    let environment = ort::init().build()?;
    let session =
        Session::builder(&environment)?.with_intra_threads(1)?.with_inter_threads(1)?.commit_from_file(path)?;
    let model = Model {
        session: Mutex::new(session),
        single: precision == "float32",
        width: width.parse()?,
        classes: classes.parse()?,
    };
    let application = Router::new().route("/predict", post(predict)).with_state(Arc::new(model));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port.parse::<u16>()?)).await?;
    axum::serve(listener, application).await?;
    Ok(())
}
