"""The other side of roundtrip_test.go: botocore's own serializers and parsers, fed from the reduced models.

usage: roundtrip.py MODELDIR < replies

Reads replies (JSON lines: service, op ("" for an error), id, status, headers, body in base64), parses each as botocore would, and
writes JSON lines:
  {"kind": "service", ...}  one a model: its name and number of operations
  {"kind": "request", ...}  one an operation and variant: a request as botocore sends it, and the value it was made from
  {"kind": "parsed", ...}   one a reply: what botocore made of it
  {"kind": "error", ...}    one an error reply: the code, message and request id botocore sees
Values are written canonically: timestamps {"$t": milliseconds}, blobs {"$b": base64}, floats {"$f": IEEE 754 bits in hex}.
No comparison happens here.
"""

import base64
import datetime
import json
import os
import random
import struct
import sys

try:
    import botocore.awsrequest
    import botocore.model
    import botocore.parsers
    import botocore.serialize
except ImportError:
    sys.exit("botocore is missing: apt install python3-botocore")

LETTERS = "abcXYZ019-_ .:/&<>\"'+%=;,#?@\\\n\téß漢😀"
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


class Maker:
    """Deterministic values of a shape. Variants: full, required, empty (all members, lists and maps empty where min allows)."""

    def __init__(self, variant, seed):
        self.variant = variant
        self.rand = random.Random(seed)

    def make(self, shape, stack=(), element=False):
        method = getattr(self, "make_" + shape.type_name)
        if shape.type_name == "structure":
            return method(shape, stack, element)
        if shape.type_name in ("list", "map"):
            return method(shape, stack)
        return method(shape)

    def make_structure(self, shape, stack, element):
        members = shape.members
        names = list(members)
        if getattr(shape, "is_tagged_union", False):
            names = [self.rand.choice(names)]
        elif self.variant == "required" or shape.name in stack:
            names = [n for n in names if n in shape.required_members]
        # An empty structure leaves no trace in a form, so one that stands in a list has to have something in it.
        if element and not names:
            names = [n for n in members if members[n].type_name not in ("structure", "list", "map")][:1]
        return {n: self.make(members[n], stack + (shape.name,)) for n in names}

    def count(self, shape):
        least = shape.metadata.get("min", 0)
        if self.variant == "empty":
            return least
        return min(max(least, self.rand.randint(1, 3)), shape.metadata.get("max", 3))

    def make_list(self, shape, stack):
        inner = shape.member
        if inner.type_name == "structure" and inner.name in stack:
            return []
        return [self.make(inner, stack, True) for _ in range(self.count(shape))]

    def make_map(self, shape, stack):
        entries = {}
        while len(entries) < self.count(shape):
            entries[self.make(shape.key)] = self.make(shape.value, stack, True)
        return entries

    def make_string(self, shape):
        if shape.enum:
            return self.rand.choice(shape.enum)
        least = shape.metadata.get("min", 0)
        length = min(max(least, self.rand.randint(1, 24)), shape.metadata.get("max", 1 << 20))
        return "".join(self.rand.choice(LETTERS) for _ in range(length))

    def make_boolean(self, shape):
        return self.rand.random() < 0.5

    def number(self, shape, bound):
        return int(shape.metadata.get("min", -bound)), int(shape.metadata.get("max", bound - 1))

    def make_integer(self, shape):
        return self.rand.randint(*self.number(shape, 1 << 31))

    def make_long(self, shape):
        return self.rand.randint(*self.number(shape, 1 << 63))

    def make_double(self, shape):
        low, high = self.number(shape, 1 << 40)
        return min(max(self.rand.uniform(low, high), low), high) * 1.0

    def make_float(self, shape):
        return struct.unpack(">f", struct.pack(">f", self.make_double(shape)))[0]

    def make_timestamp(self, shape):
        return EPOCH + datetime.timedelta(seconds=self.rand.randint(0, 4000000000))

    def make_blob(self, shape):
        least = shape.metadata.get("min", 0)
        return bytes(self.rand.randrange(256) for _ in range(max(least, self.rand.randint(1, 40))))


def canonical(shape, value):
    kind = shape.type_name
    if kind == "structure":
        return {n: canonical(shape.members[n], v) for n, v in value.items() if n in shape.members}
    if kind == "list":
        return [canonical(shape.member, v) for v in value]
    if kind == "map":
        return {k: canonical(shape.value, v) for k, v in value.items()}
    if kind == "timestamp":
        return {"$t": round((value - EPOCH) / datetime.timedelta(milliseconds=1))}
    if kind == "blob":
        return {"$b": base64.b64encode(value).decode()}
    if kind in ("float", "double"):
        return {"$f": struct.pack(">d", value).hex()}
    return value


def say(**line):
    sys.stdout.write(json.dumps(line) + "\n")


def request(service, operation, variant):
    shape = operation.input_shape
    value = {} if shape is None else Maker(variant, f"{service.service_name}/{operation.name}/{variant}").make(shape)
    serializer = botocore.serialize.create_serializer(service.metadata["protocol"], include_validation=False)
    serialized = serializer.serialize_to_request(value, operation)
    botocore.awsrequest.prepare_request_dict(serialized, "https://carrel.test")
    sent = botocore.awsrequest.create_request_object(serialized).prepare()
    body = sent.body or b""
    if isinstance(body, str):
        body = body.encode()
    say(kind="request", service=service.service_name, op=operation.name, variant=variant, method=sent.method,
        url=sent.url, headers={k: v.decode() if isinstance(v, bytes) else v for k, v in sent.headers.items()},
        body=base64.b64encode(body).decode(), value={} if shape is None else canonical(shape, value))


def main(models):
    services = {}
    for name in sorted(os.listdir(models)):
        if not name.endswith(".json"):
            continue
        with open(os.path.join(models, name), encoding="utf-8") as f:
            service = botocore.model.ServiceModel(json.load(f), name[: -len(".json")])
        services[service.service_name] = service
        say(kind="service", service=service.service_name, operations=len(service.operation_names))
        for op in service.operation_names:
            for variant in ("full", "required", "empty"):
                request(service, service.operation_model(op), variant)
    for line in sys.stdin:
        reply = json.loads(line)
        service = services[reply["service"]]
        shape = service.operation_model(reply["op"]).output_shape if reply["op"] else None
        parser = botocore.parsers.create_parser(service.metadata["protocol"])
        headers = botocore.awsrequest.HeadersDict(reply["headers"])
        parsed = parser.parse({"status_code": reply["status"], "headers": headers, "body": base64.b64decode(reply["body"])}, shape)
        meta = parsed.get("ResponseMetadata", {})
        if not reply["op"]:
            say(kind="error", id=reply["id"], request_id=meta.get("RequestId", ""), value=[parsed["Error"]["Code"], parsed["Error"]["Message"]])
            continue
        say(kind="parsed", id=reply["id"], request_id=meta.get("RequestId", ""), value={} if shape is None else canonical(shape, parsed))


main(sys.argv[1])
