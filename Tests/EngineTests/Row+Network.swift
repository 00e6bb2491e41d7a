extension Row {
    /// Interfaces, names, ports.
    static let networks: [Row] = [
        Row("eth0 has the engine's address and route", .network, short: [.docker, .podman]) { s in
            try await s.ok("run -d --name one @ sleep 1000")
            let address = try await s.ok(
                "inspect -f '{{.NetworkSettings.IPAddress}}/{{.NetworkSettings.IPPrefixLen}} {{.NetworkSettings.MacAddress}} {{.NetworkSettings.Gateway}}' one"
            )
            let script =
                "echo $(ip -4 addr show eth0 | awk \"/inet / {print \\$2}\") $(cat /sys/class/net/eth0/address) $(ip route | awk \"/default/ {print \\$3}\")"
            try await s.ok("exec one sh -c '\(script)'", address)
        },
        Row("the gateway answers", .network) { s in
            try await s.ok(
                "run --rm @ sh -c 'ping -c 1 -W 3 $(ip route | awk \"/default/ {print \\$3}\") >/dev/null && echo pong'", "pong")
        },
        Row("--mac-address is the interface's", .network) { s in
            try await s.ok("run --rm --mac-address 02:42:0a:6f:00:63 @ cat /sys/class/net/eth0/address", "02:42:0a:6f:00:63")
        },
        Row("the network's MTU is the interface's", .network) { s in
            let option = s.engine.kind == .docker ? "com.docker.network.driver.mtu=1234" : "mtu=1234"
            try await s.ok("network create --opt \(option) narrow")
            try await s.ok("run --rm --network narrow @ cat /sys/class/net/eth0/mtu", "1234")
        },
        Row("--ip asks for an address", .network) { s in
            try await s.ok("network create --subnet 10.120.7.0/24 fixed")
            try await s.ok(
                "run --rm --network fixed --ip 10.120.7.77 @ sh -c 'ip -4 addr show eth0 | awk \"/inet / {print \\$2}\"'",
                "10.120.7.77/24")
        },
        Row("IPv6 addresses and routes", .network) { s in
            try await s.ok("network create --ipv6 --subnet fd00:77::/64 six")
            try await s.ok("run -d --name one --network six @ sleep 1000")
            let address = try await s.ok("inspect -f '{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}' one")
            try await s.ok(
                "exec one sh -c 'ip -6 addr show dev eth0 scope global | awk \"/inet6/ {print \\$2}\"'", address + "/64")
            try await s.becomes("exec one sh -c 'ping6 -c 1 -W 2 fd00:77::1 >/dev/null && echo pong'", "pong")
        },
        Row("two containers reach each other", .network) { s in
            try await s.ok("run -d --name one @ sh -c 'echo served | nc -l -p 9000'")
            let address = try await s.ok("inspect -f {{.NetworkSettings.IPAddress}} one")
            try await s.ok(
                "run --rm @ sh -c 'for i in 1 2 3 4 5 6 7 8 9; do nc -w 3 \(address) 9000 </dev/null && break; sleep 0.3; done'",
                "served")
        },
        Row("none has the loopback alone", .network) { s in
            try await s.ok(
                "run --rm --network none @ sh -c 'ls /sys/class/net; ping -c 1 -W 1 127.0.0.1 >/dev/null && echo pong'",
                "lo\npong")
        },
        Row("a network that is connected while it runs", .liveNetwork, short: [.docker]) { s in
            try await s.ok("network create --subnet 10.120.8.0/24 second")
            try await s.ok("network create --subnet 10.120.9.0/24 first")
            try await s.ok("run -d --name one --network first @ sleep 1000")
            try await s.ok("network connect --ip 10.120.8.8 second one")
            try await s.becomes(
                "exec one sh -c 'ip -4 addr show eth1 | awk \"/inet / {print \\$2}\"'", "10.120.8.8/24", seconds: 3)
            try await s.ok("exec one sh -c 'ping -c 1 -W 3 10.120.8.1 >/dev/null && echo pong'", "pong")
            try await s.ok("network disconnect second one")
            try await s.becomes("exec one sh -c 'test -e /sys/class/net/eth1 || echo gone'", "gone", seconds: 3)
            try await s.ok("exec one sh -c 'ping -c 1 -W 3 10.120.9.1 >/dev/null && echo pong'", "pong")
        },
        Row("an interface that changes while it runs", .liveNetwork) { s in
            try await s.ok("run -d --name one @ sleep 1000")
            let pid = try await s.ok("inspect -f {{.State.Pid}} one")
            let inside = "nsenter -t \(pid) -n ip"
            try await s.shell(
                "\(inside) link set eth0 mtu 1300; \(inside) addr add 198.51.100.6/24 dev eth0; \(inside) route add 203.0.113.0/24 via 198.51.100.1"
            )
            let look =
                "cat /sys/class/net/eth0/mtu; ip -4 addr show eth0 | grep -o 198.51.100.6/24; ip route | grep -o '203.0.113.0/24 via 198.51.100.1'"
            try await s.becomes(
                "exec one sh -c \"\(look)\"", "1300\n198.51.100.6/24\n203.0.113.0/24 via 198.51.100.1", seconds: 3)
            try await s.shell("\(inside) route del 203.0.113.0/24; \(inside) addr del 198.51.100.6/24 dev eth0")
            try await s.becomes(
                "exec one sh -c \"ip -4 addr show eth0 | grep -c inet; ip route | grep -c 198.51 || true\"", has: "1\n0",
                seconds: 3)
        },
        Row("a container's name on a network of one's own", .names, short: [.docker]) { s in
            try await s.ok("network create web")
            try await s.ok("run -d --name server --network web --network-alias www @ sleep 1000")
            let address = try await s.ok("inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' server")
            for name in ["server", "www"] {
                try await s.becomes(
                    "run --rm --network web @ sh -c 'ping -c 1 -W 3 \(name) | head -1 | grep -o \(address) | head -1'", address)
            }
        },
        Row("Docker's name server is at 127.0.0.11", .names, on: [.docker]) { s in
            try await s.ok("network create web")
            try await s.ok("run --rm --network web @ cat /etc/resolv.conf", has: "nameserver 127.0.0.11")
        },
        Row("a name that only the upstream server knows", .names, on: [.docker]) { s in
            try await s.ok("network create web")
            // Answers every question with 10.9.8.7: a copy of the question, one answer that points to its name, type A, a minute.
            let server = try s.file(
                "names.py",
                """
                import socket
                server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                server.bind(("\(Docker.bridge)", 53))
                while True:
                    question, client = server.recvfrom(512)
                    end = question.index(b"\\0", 12) + 5
                    header = question[:2] + bytes.fromhex("81800001000100000000")
                    answer = bytes.fromhex("c00c000100010000003c00040a090807")
                    server.sendto(header + question[12:end] + answer, client)

                """)
            try await s.shell("/usr/bin/python3 \(server) >/dev/null 2>&1 & echo $! >$S/pid; sleep 0.5", "")
            do {
                try await s.ok("run --rm --network web @ nslookup -type=a only.upstream.example", has: "10.9.8.7")
            } catch {
                try await s.shell("kill $(cat $S/pid); true")
                throw error
            }
            try await s.shell("kill $(cat $S/pid); true")
        },
        Row("a container in another's network", .sharedNetwork) { s in
            try await s.ok("run -d --name one @ sh -c 'echo shared | nc -l -p 7000; sleep 1000'")
            try await s.ok(
                "run --rm --network container:one @ sh -c 'for i in 1 2 3 4 5 6 7 8 9; do nc -w 3 127.0.0.1 7000 </dev/null && break; sleep 0.3; done'",
                "shared")
        },
        Row("a published port answers", .ports, short: [.docker]) { s in
            try await s.ok("run -d --name one -p 18080:80 @ sh -c 'mkdir /w; echo page >/w/index.html; httpd -f -p 80 -h /w'")
            let address = try await s.ok("inspect -f {{.NetworkSettings.Gateway}} one")
            try await s.shell(
                "for i in 1 2 3 4 5 6 7 8 9; do (printf 'GET / HTTP/1.0\\r\\n\\r\\n' | socat -t 3 - TCP:\(address):18080 | grep page) && break; sleep 0.3; done",
                "page")
            try await s.shell("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | socat -t 3 - TCP:127.0.0.1:18080 | tail -1", "page")
            try await s.ok("port one", has: "80/tcp -> 0.0.0.0:18080")
        },
        Row("a port of those that the host's own sockets have", .ports) { s in
            for port in [61440, 65535] {
                try await s.ok("run -d --name p\(port) @ sh -c 'while :; do echo high | nc -l -p \(port); done'")
                try await s.shell(
                    "for i in 1 2 3 4 5 6 7 8 9; do timeout 3 socat -u TCP:$($C inspect -f {{.NetworkSettings.IPAddress}} p\(port)):\(port) - && break; sleep 0.3; done",
                    "high")
            }
        },
        Row("a published UDP port answers", .ports) { s in
            // It answers whoever asks, however often: on a busy machine the first answer may come too late.
            try await s.ok(
                "run -d --name one -p 15353:53/udp @ sh -c 'echo only.here 10.3.2.1 >/n; exec perl -MSocket -e \"socket(S,PF_INET,SOCK_DGRAM,0);bind(S,sockaddr_in(53,INADDR_ANY));while(\\$a=recv(S,\\$b,99,0)){send(S,uc \\$b,0,\\$a)}\"'"
            )
            let address = try await s.ok("inspect -f {{.NetworkSettings.Gateway}} one")
            try await s.shell(
                "for i in 1 2 3 4 5 6 7 8 9; do echo datagram | socat -t 3 - UDP:\(address):15353 2>/dev/null | grep D && break; sleep 0.5; done",
                "DATAGRAM")
        },
        Row("the host's own network", .hostNamespaces) { s in
            try await s.shell("ip link add marker type dummy 2>/dev/null || ip link add marker type bridge")
            do { try await s.ok("run --rm --network host @ ls -d /sys/class/net/lo", "/sys/class/net/lo") } catch {
                try await s.shell("ip link del marker")
                throw error
            }
            try await s.shell("ip link del marker")
        },
    ]
}
