#!/usr/bin/env python3
"""cri.py SOCKET VERB …: speaks the Kubernetes Container Runtime Interface (runtime.v1) as a kubelet does.

pod NAME                 runs a pod's sandbox; prints its id
run POD-ID NAME COMMAND… makes and starts a container in the pod; prints its id
exec ID COMMAND…         runs a command in a container; its output and code become ours
code ID                  prints "running", or a container's exit code
address POD-ID           prints a pod's address
clear                    stops and removes every pod
"""
import os
import sys

import grpc

IMAGE = "localhost/box:latest"


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def message(*fields):
    """A protobuf message of (number, value) pairs: text, bytes, numbers; nothing for None."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        elif value is not None:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def parse(data):
    """The fields of a message: number → the values, in order."""
    fields, place = {}, 0

    def number():
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(data):
        key = number()
        if key & 7 == 0:
            value = number()
        else:
            size = {1: 8, 5: 4}.get(key & 7) or number()
            value = data[place:place + size]
            place += size
        fields.setdefault(key >> 3, []).append(value)
    return fields


class Runtime:
    def __init__(self, socket):
        self.channel = grpc.insecure_channel(f"unix:{socket}")

    def call(self, verb, *fields, seconds=50):
        method = self.channel.unary_unary(f"/runtime.v1.RuntimeService/{verb}")
        return parse(method(message(*fields), timeout=seconds))

    @staticmethod
    def pod_configuration(name):
        return message(
            (1, message((1, name), (2, f"uid-{name}"), (3, "default"))), (2, name), (3, "/run/pods"),
            (8, message((1, os.environ.get("CGROUP_PARENT", "/pods")))))

    def pod(self, name):
        return self.call("RunPodSandbox", (1, self.pod_configuration(name)))[1][0].decode()

    def pod_name(self, pod):
        status = parse(self.call("PodSandboxStatus", (1, pod))[1][0])
        return parse(status[2][0])[1][0].decode(), status

    def run(self, pod, name, command):
        configuration = message(
            (1, message((1, name))), (2, message((1, IMAGE))), *[(3, word) for word in command], (11, f"{name}.log"))
        sandbox = self.pod_configuration(self.pod_name(pod)[0])
        container = self.call("CreateContainer", (1, pod), (2, configuration), (3, sandbox))[1][0].decode()
        self.call("StartContainer", (1, container))
        return container

    def exec(self, container, command):
        answer = self.call("ExecSync", (1, container), *[(2, word) for word in command], (3, 40))
        sys.stdout.buffer.write(answer.get(1, [b""])[0])
        sys.stderr.buffer.write(answer.get(2, [b""])[0])
        return answer.get(3, [0])[0]

    def code(self, container):
        status = parse(self.call("ContainerStatus", (1, container))[1][0])
        return "running" if status.get(3, [0])[0] == 1 else status.get(7, [0])[0]

    def address(self, pod):
        return parse(self.pod_name(pod)[1][5][0])[1][0].decode()

    def clear(self):
        for item in self.call("ListPodSandbox").get(1, []):
            pod = parse(item)[1][0].decode()
            self.call("StopPodSandbox", (1, pod))
            self.call("RemovePodSandbox", (1, pod))


def main(socket, verb, *words):
    runtime = Runtime(socket)
    try:
        if verb == "exec":
            return runtime.exec(words[0], words[1:])
        if verb == "run":
            print(runtime.run(words[0], words[1], words[2:]))
        else:
            answer = getattr(runtime, verb)(*words)
            if answer is not None:
                print(answer)
    except grpc.RpcError as error:
        print(error.details(), file=sys.stderr)
        return 125
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
