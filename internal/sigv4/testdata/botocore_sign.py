# Signs random requests with botocore and prints one JSON object a line. Arguments: seed, count.
import datetime, json, random, sys
from urllib.parse import quote, urlsplit
import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

rnd = random.Random(int(sys.argv[1]))
now = datetime.datetime(2026, 11, 23, 12, 0, 0)
if hasattr(botocore.auth, "get_current_datetime"):
    botocore.auth.get_current_datetime = lambda *a, **k: now
else:
    class Frozen(datetime.datetime):
        @classmethod
        def utcnow(cls):
            return now
    botocore.auth.datetime.datetime = Frozen

PATH = ["/", "//", "/./", "/../", "a", "B", "%20", "%2F", "%2f", "%00", "+", "-._~", "=", ":", "@", ",", "\u1234", "\u00e9", "$", "(", "~"]
TEXT = ["a", "Z", "0", " ", "+", "&", "=", "%", "/", "~", "-", "\u1234", "\u00e9", "\x00", ";", "'", "!", "*", "(", ":"]
VALUE = ["a", "B", " ", "  ", "\t", ",", '"', "=", ";", "%20", "~"]
some = lambda alphabet, most: "".join(rnd.choice(alphabet) for _ in range(rnd.randint(0, most)))

for i in range(int(sys.argv[2])):
    presign = rnd.random() < 0.4
    path = "/" + some(PATH, 8)
    names = list({(some(TEXT, 4) + "k").lower() for _ in range(rnd.randint(0, 4))})
    pairs = [(n, some(TEXT, 6)) for n in names]
    if not presign and pairs and rnd.random() < 0.3:
        pairs.append((pairs[0][0], some(TEXT, 6)))
    esc = lambda s: quote(s, safe="-_.~")
    url = "https://host-%d.example.com%s" % (i, path.replace("?", ""))
    if pairs:
        url += "?" + "&".join(esc(k) + "=" + esc(v) for k, v in pairs)
    headers = {}
    for n in rnd.sample(["Content-Type", "X-Amz-Target", "X-Custom", "User-Agent", "Accept", "X-Amz-Meta-1", "X-Amzn-Trace-Id"], rnd.randint(0, 5)):
        headers[n] = "v" + some(VALUE, 8)
    body = bytes(rnd.randrange(256) for _ in range(rnd.randint(0, 80)))
    token = "token" + some("abc/+=", 9) if rnd.random() < 0.3 else None
    cred = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token)
    req = AWSRequest(method=rnd.choice(["GET", "POST", "PUT", "DELETE"]), url=url, headers=headers, data=None if presign else body)
    kind = botocore.auth.SigV4QueryAuth if presign else botocore.auth.SigV4Auth
    kind(cred, "workspaces", "eu-central-1").add_auth(req)
    u = urlsplit(req.url)
    print(json.dumps({"method": req.method, "path": u.path, "query": u.query, "host": u.netloc, "presigned": presign, "token": token or "",
                      "headers": [[k, v] for k, v in req.headers.items()], "body": "" if presign else body.hex()}))
