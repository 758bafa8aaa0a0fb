"""Writes the chart's values.schema.json: `python deploy/helm/values_schema.py`.

What stands below `config` is the agent's own schema of its configuration, less what the chart
decides; so a key that the agent knows is a value, and no other is. A test holds the file to this.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hf_agent.config.schema import schema as config_schema

FILE = Path(__file__).parent / "hf-agent" / "values.schema.json"

STRING = {"type": "string"}
FLAG = {"type": "boolean"}
OBJECT = {"type": "object"}
LIST_OF_OBJECTS = {"type": "array", "items": OBJECT}
LABELS = {"type": "object", "additionalProperties": STRING}
COUNT = {"type": "integer", "minimum": 1}
ABSOLUTE = {"type": "string", "pattern": "^/[^:]+$"}
PROMETHEUS_DURATION = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}


def table(**properties: Any) -> dict[str, Any]:
    """An object with these keys at most."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


def configuration() -> dict[str, Any]:
    """Of `config`: the agent's, without what the chart sets, and sockets where pods find them."""
    whole = config_schema()
    tables = whole["properties"]
    del tables["http"]
    agent = tables["agent"]["properties"]
    del agent["node"], agent["data_dir"]
    tables["listen"]["items"]["properties"]["path"] = {
        "type": "string",
        "description": "of the socket; it is below the directory that pods mount",
        "pattern": "^/run/hf-agent/[A-Za-z0-9._-]+$",
        "maxLength": 107,
    }
    # The chart itself says what to do when it is missing.
    del tables["store"]["required"]
    tables["store"]["properties"]["url"] = {
        "type": "string",
        "description": "s3://bucket/prefix, or file:///srv/hf-agent with storeVolume",
        "pattern": r"^$|^s3://.+|^file:///srv/hf-agent(/.*)?$|\$\{",
    }
    return {"type": "object", "additionalProperties": False, "properties": tables}


def probe() -> dict[str, Any]:
    """Of a probe: times and counts only; what is asked is the chart's."""
    return table(
        initialDelaySeconds={"type": "integer", "minimum": 0},
        periodSeconds=COUNT,
        timeoutSeconds=COUNT,
        failureThreshold=COUNT,
        successThreshold=COUNT,
    )


def schema() -> dict[str, Any]:
    """The schema of the chart's values."""
    monitor = table(enabled=FLAG, interval=PROMETHEUS_DURATION, labels=LABELS)
    name = {"type": "string", "pattern": "^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart hf-agent",
        **table(
            # What Helm gives to a chart that is part of another one.
            **{"global": OBJECT},
            nameOverride=name,
            fullnameOverride=name,
            image=table(
                repository={"type": "string", "pattern": "^[a-z0-9][a-z0-9._:/-]*$"},
                tag={"type": "string", "pattern": "^$|^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"},
                digest={"type": "string", "pattern": "^$|^sha256:[0-9a-f]{64}$"},
                pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
            ),
            imagePullSecrets=LIST_OF_OBJECTS,
            config=configuration(),
            rawConfig=STRING,
            env=LIST_OF_OBJECTS,
            envFrom=LIST_OF_OBJECTS,
            hostPaths=table(data=ABSOLUTE, sockets=ABSOLUTE),
            storeVolume={**OBJECT, "maxProperties": 1},
            serviceAccount=table(create=FLAG, name=STRING, annotations=LABELS),
            priorityClassName=STRING,
            terminationGracePeriodSeconds=COUNT,
            maxUnavailable={
                "anyOf": [COUNT, {"type": "string", "pattern": "^([1-9][0-9]?|100)%$"}]
            },
            tolerations=LIST_OF_OBJECTS,
            nodeSelector=LABELS,
            affinity=OBJECT,
            podAnnotations=LABELS,
            podLabels=LABELS,
            resources=table(requests=OBJECT, limits=OBJECT, claims={"type": "array"}),
            port={"type": "integer", "minimum": 1024, "maximum": 65535},
            startupProbe=probe(),
            readinessProbe=probe(),
            livenessProbe=probe(),
            networkPolicy=table(enabled=FLAG, **{"from": LIST_OF_OBJECTS}, egress=LIST_OF_OBJECTS),
            podMonitor=monitor,
            serviceMonitor=monitor,
            prometheusRule=table(
                enabled=FLAG,
                labels=LABELS,
                runbookUrl={"type": "string", "pattern": "^$|^https?://.+"},
            ),
        ),
    }


def text() -> str:
    """What the file holds."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
