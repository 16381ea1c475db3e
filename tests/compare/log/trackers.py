"""What each tracker shows of a study, read back by its own means: name -> (points, config, summary), all runs."""

import json
import struct

from tests.waiting import until


def shown_by_tensorboard(place):
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from tensorboard.util.tensor_util import make_ndarray

    found = {}
    for file in place.rglob("events.out.tfevents.*"):
        name = "/".join(file.parent.relative_to(place).parts[1:])  # the first part names the study
        assert name not in found
        events = EventAccumulator(str(file.parent), size_guidance={"tensors": 0}).Reload()
        tags = events.Tags()["tensors"]
        config, points, summary = {}, {}, {}
        if "_hparams_/session_start_info" in tags:
            content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
            given = HParamsPluginData.FromString(content).session_start_info.hparams
            config = {key: getattr(value, value.WhichOneof("kind")) for key, value in given.items()}
        for tag in tags:
            if tag.startswith(("train/", "valid/", "test/")):
                for event in events.Tensors(tag):
                    value = make_ndarray(event.tensor_proto).item()
                    if tag.startswith("test/"):
                        summary[tag] = value
                    else:
                        points.setdefault(event.step, {})[tag] = value
        if "verdict/text_summary" in tags:
            summary["text"] = events.Tensors("verdict/text_summary")[0].tensor_proto.string_val[0].decode()
        found[name] = points, config, summary
    return found


def shown_by_mlflow(place):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{place}/mlflow.db")
    experiments = [e.experiment_id for e in client.search_experiments()]
    found = {}
    for run in client.search_runs(experiments, max_results=10_000):
        name = run.data.tags["thalweg.run"] or "verdict"  # of a study that is not at its end
        assert name not in found
        assert name.startswith(("verdict", "train")) == ("mlflow.parentRunId" not in run.data.tags)
        points, summary = {}, {key: value for key, value in run.data.metrics.items() if key.startswith("test")}
        for key in run.data.metrics.keys() - summary.keys():
            for metric in client.get_metric_history(run.info.run_id, key):
                points.setdefault(metric.step, {})[key] = metric.value
        if "mlflow.note.content" in run.data.tags:
            summary["text"] = run.data.tags["mlflow.note.content"]
        if run.info.status == "FINISHED":
            found[name] = points, run.data.params, summary
    return found


def shown_by_wandb(place):
    from wandb.proto.wandb_internal_pb2 import Record

    found = {}
    for file in place.glob("wandb/offline-run-*/*.wandb"):
        points, summary, name, config = {}, {}, None, {}
        for data in _ended(file):
            record = Record.FromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                name = record.run.display_name
                config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
                if record.run.notes:
                    summary["text"] = record.run.notes
            elif kind == "history":
                items = {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
                values = {key: value for key, value in items.items() if not key.startswith("_")}
                points[items["_step"]] = values
            elif kind == "summary":
                for item in record.summary.update:
                    key = item.key or item.nested_key[0]
                    if key.startswith("test"):
                        summary[key] = json.loads(item.value_json)
        assert name not in found
        found[name] = points, config, summary
    return found


def _ended(file):
    """Returns the records of a file, once W&B's own process has written the last of them."""
    from wandb.proto.wandb_internal_pb2 import Record

    def whole():
        records = list(_leveldb_records(file.read_bytes()))
        return records if records and Record.FromString(records[-1]).WhichOneof("record_type") == "exit" else None

    return until(whole)


def _leveldb_records(data):
    """Yields the records of a log in LevelDB's format: blocks of 32 KiB, pieces of (checksum, length, kind)."""
    block, position, pieces = 32768, 7, b""
    while position + 7 <= len(data):
        if block - position % block < 7:
            position += block - position % block
            continue
        length, kind = struct.unpack("<HB", data[position + 4 : position + 7])
        pieces += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield pieces
            pieces = b""


SHOWN = {"tensorboard": shown_by_tensorboard, "mlflow": shown_by_mlflow, "wandb": shown_by_wandb}
