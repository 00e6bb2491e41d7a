extension Row {
    /// What a kubelet asks of a runtime.
    static let kubernetes: [Row] = [
        Row("a pod's container runs commands", .kubernetes, on: [.cri], short: [.cri]) { s in
            let pod = try await s.ok("pod web")
            let one = try await s.ok("run \(pod) one sleep 1000")
            let call = try await s.ends("exec \(one) sh -c 'echo out; echo err >&2; exit 3'", 3, "out")
            try s.expect(call.errors == "err", call.line, "“err” on standard error", call.errors)
            try await s.ok("exec \(one) hostname", "web")
        },
        Row("a pod's containers share network and memory", .kubernetes, on: [.cri], short: [.cri]) { s in
            let pod = try await s.ok("pod web")
            let one = try await s.ok("run \(pod) one sh -c 'echo x >/dev/shm/x; nc -l -p 7000 -e echo podded; sleep 1000'")
            let two = try await s.ok("run \(pod) two sleep 1000")
            try await s.becomes("exec \(two) sh -c 'nc -w 2 127.0.0.1 7000 </dev/null; cat /dev/shm/x'", "podded\nx")
            try await s.ok("code \(one)", "running")
        },
        Row("a pod has an address that answers", .kubernetes, on: [.cri], short: [.cri]) { s in
            let pod = try await s.ok("pod web")
            let one = try await s.ok("run \(pod) one sleep 1000")
            let address = try await s.ok("address \(pod)")
            try await s.ok(
                "exec \(one) sh -c 'ip -4 addr show eth0 | awk \"/inet / {print \\$2}\"; cat /sys/class/net/eth0/mtu'",
                "\(address)/24\n1400")
            try await s.host("ping -c 1 -W 3 \(address)", has: "1 received")
        },
        Row("a container's end is told with its code", .kubernetes, on: [.cri]) { s in
            let pod = try await s.ok("pod web")
            let one = try await s.ok("run \(pod) one sh -c 'exit 9'")
            try await s.becomes("code \(one)", "9")
            let two = try await s.ok("run \(pod) two sleep 1000")
            try await s.ok("code \(two)", "running")
        },
        Row("two pods at once are apart", .kubernetes, on: [.cri]) { s in
            let (left, right) = (try await s.ok("pod left"), try await s.ok("pod right"))
            let one = try await s.ok("run \(left) one sh -c 'echo left >/who; sleep 1000'")
            let two = try await s.ok("run \(right) one sh -c 'echo right >/who; sleep 1000'")
            try await s.becomes("exec \(one) cat /who", "left")
            try await s.becomes("exec \(two) cat /who", "right")
            let address = try await s.ok("address \(right)")
            try await s.ok("exec \(one) sh -c 'ping -c 1 -W 3 \(address) >/dev/null && echo pong'", "pong")
        },
    ]
}
