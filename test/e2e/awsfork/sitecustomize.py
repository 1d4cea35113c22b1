"""Turns the AWS CLI's own interpreter into a server that runs the AWS CLI in a fork for each call.

Starting Python and reading the CLI's modules takes longer than most calls. The end-to-end scripts make hundreds of them, so they are made by children of
one process that has read the modules already. What runs is the CLI that is installed, as it is: its own main with the arguments, the environment, the directory and the
three standard files of the call.

Python imports a module of this name when it starts, wherever the CLI keeps its Python: forkedaws.go starts `aws` with PYTHONPATH set to this directory. A CLI that is no Python
program, or does not look at PYTHONPATH, never listens, and is then run in the usual way.
"""

import os

address = os.environ.pop("CARREL_AWS_SERVE", None)
if address:
    os.environ.pop("PYTHONPATH", None)
    import gc
    import signal
    import socket
    import struct
    import sys
    import time
    import traceback

    before = dict(os.environ)
    import awscli.clidriver

    awscli.clidriver.create_clidriver()  # reads the modules of all its plugins
    import botocore.client
    import botocore.endpoint
    import botocore.httpsession
    import botocore.loaders
    import botocore.session

    # The models of the services that the scripts use are read once as well; what is not among them is read as ever.
    read = botocore.loaders.JSONFileLoader.load_file
    known = {}
    data = os.path.join(os.path.dirname(botocore.__file__), "data")
    paths = [os.path.join(data, name) for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry")]
    for service in ("cloudtrail", "ds", "ds-data", "ec2", "iam", "sts", "workspaces"):
        if os.path.isdir(os.path.join(data, service)):
            newest = os.path.join(data, service, max(os.listdir(os.path.join(data, service))))
            paths += [os.path.join(newest, file.removesuffix(".gz").removesuffix(".json")) for file in os.listdir(newest)]
    for path in paths:
        known[path] = read(botocore.loaders.JSONFileLoader(), path)
    botocore.loaders.JSONFileLoader.load_file = lambda self, path: known[path] if path in known else read(self, path)

    # The CLI notes in its environment where its own data is when it is imported.
    noted = {name: value for name, value in os.environ.items() if name not in before}

    def receive(conn, n):
        text = b""
        while len(text) < n:
            more = conn.recv(n - len(text))
            if not more:
                os._exit(1)
            text += more
        return text

    def call(conn):
        """Runs one call in a child and sends its exit code."""
        head, files, _, _ = socket.recv_fds(conn, 4, 3)
        head += receive(conn, 4 - len(head))
        where, count, *rest = map(os.fsdecode, receive(conn, struct.unpack(">I", head)[0]).split(b"\0"))
        args, environment = rest[: int(count)], rest[int(count) :]
        for n, file in enumerate(files):
            os.dup2(file, n)
            os.close(file)
        os.chdir(where)
        os.environ.clear()
        os.environ.update(entry.split("=", 1) for entry in environment)
        for name, value in noted.items():
            os.environ.setdefault(name, value)
        time.tzset()
        sys.argv = ["aws", *args]
        try:
            code = awscli.clidriver.main()
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
        except BaseException:
            traceback.print_exc()
            code = 1
        for file in (sys.stdout, sys.stderr):
            try:
                file.flush()
            except OSError:
                code = code or 1
        conn.sendall(struct.pack(">I", (code or 0) & 0xFF))
        os._exit(0)

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(16)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    parent = os.getppid()
    listener.settimeout(1)
    while os.getppid() == parent:
        try:
            conn, _ = listener.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            conn.settimeout(None)
            call(conn)
        conn.close()
    os._exit(0)
