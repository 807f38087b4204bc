"""A column of predictions on a table of Spark: each worker opens the verified model."""

import os
import sys

from pyspark.sql import SparkSession
from pyspark.sql.types import StringType, StructField, StructType

from artifact import load

MODEL = os.environ["MODEL"]


def predicted(frames):
    model = load(MODEL)  # once for each part of the table
    for frame in frames:
        labels = model.predict(frame[list(model.signature.names)])
        yield frame.assign(prediction=[str(label) for label in labels])


if __name__ == "__main__":
    source, target = sys.argv[1:]
    spark = SparkSession.builder.appName("predictions").getOrCreate()
    table = spark.read.parquet(source)
    schema = StructType([*table.schema.fields, StructField("prediction", StringType())])
    table.mapInPandas(predicted, schema).write.parquet(target)
    spark.stop()
