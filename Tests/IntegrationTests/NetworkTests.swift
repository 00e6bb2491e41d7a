import Foundation
import Testing

extension IntegrationTests {
    /// The bridge, inside the tests' network namespace.
    @Suite struct Network {
        let lab = Lab.shared

        /// What `script` says in a new container on the bridge.
        func onBridge(_ flags: [String], _ script: String) throws -> Program.Output {
            try lab.hull(["run", "--rm"] + flags + [lab.image, "sh", "-c", script])
        }

        /// Starts a server on the host's side that answers each connection with `text`.
        func server(_ port: Int, _ text: String) throws -> Program {
            let program = try Program(
                lab.inside(["python3", "-c", Self.answering(port, text)]))
            try listening(port)
            return program
        }

        /// A program for python3 that does so: this busybox's nc knows neither -k nor -e.
        static func answering(_ port: Int, _ text: String) -> String {
            """
            import socket
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("", \(port)))
            listener.listen()
            while True:
                one, peer = listener.accept()
                one.sendall(("\(text) " + peer[0] + "\\n").encode())
                one.close()
            """
        }

        /// Waits until somebody listens on a TCP port of the namespace.
        func listening(_ port: Int) throws {
            try lab.host("sh", "-c", "until ss -tlnH sport = :\(port) | grep -q .; do sleep 0.02; done", seconds: 10)
        }

        /// The network goes beside the machine's own end, under a VMM that still has its tap: it aborted, and the host's log said so.
        @Test func aMachineEndsBesideItsNetwork() throws {
            func faults() throws -> [String] {
                try lab.host("dmesg").lines.filter { $0.contains("qemu") && ($0.contains("traps:") || $0.contains("segfault")) }
            }
            let before = try faults().count
            for _ in 0..<3 {
                let output = try lab.hull("run", "--rm", "-v", "\(try lab.scratch("beside")):/b", lab.image, "true")
                #expect(output.code == 0, "\(output.errors)")
            }
            #expect(try faults().count <= before)
        }

        @Test func theGuestReachesItsGateway() throws {
            let output = try onBridge(
                ["--dns", "10.9.8.7", "--dns-search", "example.test"],
                "ip -4 -o addr show eth0 | wc -l; ip route | grep -c default; cat /etc/resolv.conf; ping -c 1 -W 5 $(ip route | awk '/default/ {print $3}') >/dev/null && echo reached"
            )
            #expect(output.lines.first == "1", "\(output.errors)")
            #expect(output.lines.contains("nameserver 10.9.8.7") && output.lines.contains("search example.test"))
            #expect(output.lines.last == "reached", "\(output.text) \(output.errors)")
            let server = try server(7000, "from the host")
            let asked = try onBridge(
                [], "nc -w 5 $(ip route | awk '/default/ {print $3}') 7000 </dev/null; grep -c nameserver /etc/resolv.conf")
            #expect(asked.lines.first?.hasPrefix("from the host ") == true, "\(asked.errors)")
            #expect(asked.lines.last.flatMap { Int($0) } ?? 0 > 0)
            server.signal(SIGKILL)
            _ = try server.finish()
        }

        @Test func addressesAreTranslated() throws {
            // A second namespace that knows no way back to the bridge: what reaches it has our address.
            try lab.host(
                "sh", "-c", "ip link add up0 type veth peer name far0 && ip addr add 192.0.2.1/24 dev up0 && ip link set up0 up")
            let far = try Program(
                lab.inside([
                    "unshare", "--net", "--", "sh", "-c",
                    "echo ready; read x; ip addr add 192.0.2.2/24 dev far0; ip link set far0 up; echo up; exec python3 -c \"$0\"",
                    Self.answering(7001, "far"),
                ]), open: true)
            try far.expect("ready")
            try lab.host("ip", "link", "set", "far0", "netns", "\(far.pid)")
            far.type("\n")
            try far.expect("up")
            let output = try onBridge([], "for i in 1 2 3 4 5; do nc -w 5 192.0.2.2 7001 </dev/null && break; done")
            #expect(output.text == "far 192.0.2.1\n", "\(output.errors)")
            far.signal(SIGKILL)
            _ = try far.finish()
        }

        @Test func publishedPortsAndNeighbours() throws {
            let run = try lab.hull(
                "run", "-d", "--name", "web", "-p", "8080:80", "-p", "127.0.0.1:8081:80", lab.image, "sh", "-c",
                "while true; do echo from-web | nc -l -p 80; done")
            try #require(run.code == 0, "\(run.errors)")
            defer { _ = try? lab.hull("rm", "-f", "web", "web2") }  // the suite's end looks for what is left
            let listening = "until grep -q ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do sleep 0.05; done"
            for port in ["8080", "8081"] {
                try lab.good("exec", "web", "sh", "-c", listening)
                #expect(try lab.host("busybox", "nc", "-w", "5", "127.0.0.1", port).text == "from-web\n", "127.0.0.1:\(port)")
            }
            try lab.good("exec", "web", "sh", "-c", listening)
            let gateway = try lab.host("sh", "-c", "ip -4 -o addr show hull0 | awk '{print $4}' | cut -d / -f 1").word
            #expect(try lab.host("busybox", "nc", "-w", "5", gateway, "8080").text == "from-web\n")
            #expect(try lab.good("ps", "-f", "name=web", "--format", "{{.Ports}}").text.contains("0.0.0.0:8080->80/tcp"))
            let network = try #require(lab.inspect("web")["NetworkSettings"] as? [String: Any])
            let address = try #require((network["Addresses"] as? [String])?.first)
            try lab.good("exec", "web", "sh", "-c", listening)
            // Another container reaches it, by its address.
            #expect(try onBridge([], "nc -w 5 \(address) 80 </dev/null").text == "from-web\n")
            let twice = try lab.hull("run", "-d", "--name", "web2", "-p", "8080:80", lab.image, "true")
            #expect(twice.code == 125 && twice.errors.contains("8080"), "\(twice.errors)")
            try lab.good("rm", "-f", "web")
            #expect(try lab.host("busybox", "nc", "-w", "5", "127.0.0.1", "8080").code != 0)
        }

        /// The host asks a resolver that listens on its loopback only, which no guest can reach by itself.
        @Test(arguments: ["127.0.0.1", "127.0.0.53"]) func resolverOnTheLoopback(_ address: String) throws {
            let server = try Program(lab.inside(["python3", "-c", Self.resolving(address)]))
            defer {
                server.signal(SIGKILL)
                _ = try? server.finish()  // it was killed
            }
            try server.expect("ready")
            let file = "\(try lab.scratch("resolver"))/resolv.conf"
            try lab.write("nameserver \(address)\nsearch example.test\n", to: file)
            // The same without systemd-resolved's own file of upstream servers, where this machine has one.
            let script =
                "mount --bind \(file) /etc/resolv.conf; [ ! -d /run/systemd/resolve ] || mount -t tmpfs none /run/systemd/resolve; exec \"$@\""
            let verb = try lab.line([
                "run", "--rm", lab.image, "sh", "-c", "nslookup -type=a web.example.test; cat /etc/resolv.conf",
            ])
            let output = try Program(["unshare", "--mount", "--", "sh", "-c", script, "sh"] + verb).finish()
            #expect(
                output.text.contains("203.0.113.7") && output.text.contains("search example.test"),
                "\(output.text) \(output.errors)")
            #expect(!output.text.contains("nameserver 127."))
        }

        /// A name server for python3 that knows one address for all names.
        static func resolving(_ address: String) -> String {
            """
            import socket
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.bind(("\(address)", 53))
            print("ready", flush=True)
            while True:
                query, peer = server.recvfrom(512)
                end = query.index(b"\\0", 12) + 5
                head = query[:2] + bytes([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0])
                server.sendto(head + query[12:end] + bytes([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 7]), peer)
            """
        }

        /// The other board, with all that a machine can have.
        @Test func theOtherBoard() throws {
            let folder = try lab.scratch("q35")
            try lab.good(
                "run", "-d", "--name", "q35", "--machine", "q35", "--cpus", "2", "--memory", "256m", "-v", "\(folder):/bound",
                "-p", "8083:80",
                lab.image, "sh", "-c", "while true; do echo from-q35 | nc -l -p 80; done")
            defer { _ = try? lab.hull("rm", "-f", "q35") }  // the suite's end looks for what is left
            let inside =
                "nproc; cat /sys/fs/cgroup/memory.max; echo here >/bound/file; until grep -q ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do sleep 0.05; done"
            #expect(try lab.good("exec", "q35", "sh", "-c", inside).text == "2\n268435456\n")
            #expect(try lab.read("\(folder)/file") == "here\n")
            #expect(try lab.host("busybox", "nc", "-w", "5", "127.0.0.1", "8083").text == "from-q35\n")
            try lab.good("stop", "-t", "1", "q35")
            try lab.good("start", "q35")
            #expect(try lab.hull("exec", "-i", "q35", "wc", "-c", input: Array("twelve bytes".utf8)).word == "12")
        }

        @Test func nothingIsLeft() throws {
            // The bridge may stay; taps and rules of containers may not.
            #expect(try lab.host("sh", "-c", "ip -o link show type tun").text == "")
            #expect(try !lab.host("nft", "list", "ruleset").text.contains("8080"))
        }

        @Test func portTakenByTheHost() throws {
            let server = try server(7002, "mine")
            let output = try lab.hull("run", "--rm", "-p", "7002:80", lab.image, "true")
            #expect(output.code == 125 && output.errors.contains("7002"), "\(output.errors)")
            server.signal(SIGKILL)
            _ = try server.finish()
        }
    }
}
