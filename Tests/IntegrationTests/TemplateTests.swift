import Foundation
import Testing

extension IntegrationTests {
    /// Machines that are cloned from templates, as users see them: quicker, and otherwise no different.
    @Suite struct Templates {
        let lab = Lab.shared
        private static let shape = ["--network", "none", "--memory", "200m"]

        private var store: String { "\(lab.root)/cache/templates" }

        private func build(_ flags: [String] = Self.shape) throws -> String {
            let output = try lab.hull(["template", "build"] + flags, seconds: 200)
            try #require(output.code == 0, "\(output.errors)")
            return output.word
        }

        /// `hull run` with the flags of the template, without `--rm`: its output, and the monitor's log.
        private func run(_ name: String, _ words: [String]) throws -> (output: Program.Output, log: String) {
            let output = try lab.hull(["run", "--name", name] + Self.shape + [lab.image] + words)
            let log = (try lab.inspect(name)["Paths"] as? [String: Any])?["MonitorLog"] as? String
            defer { _ = try? lab.hull("rm", "--force", name) }
            return (output, try lab.read(try #require(log)))
        }

        @Test func theFirstStartLeavesATemplate() throws {
            let flags = ["run", "--rm", "--network", "none", "--memory", "222m", lab.image, "true"]
            // Other tests' starts leave templates of other machines, at any time.
            let made = {
                try self.lab.good("template", "ls").lines.filter { $0.contains("318 MiB") }.compactMap {
                    $0.split(separator: " ").first
                }
            }
            #expect(try made().isEmpty)
            #expect(try lab.hull(flags).code == 0)
            try eventually("a template", within: 120) { try !made().isEmpty }
            let keys = try made()
            #expect(keys.count == 1)
            for key in keys { #expect(try lab.good("template", "rm", String(key)).word == key) }
            #expect(try made().isEmpty)
            #expect(try lab.hull("template", "rm", "0123").code == 1)
        }

        /// Each is a machine of its own: nothing random comes twice, and its clock is right at once.
        @Test func everyCloneIsAnother() throws {
            _ = try build()
            let count = ProcessInfo.processInfo.environment["HULL_CLONES"].flatMap { Int($0) } ?? 20
            var seen: [String: Set<String>] = [:]
            let script = """
                echo random $(head -c 32 /dev/urandom | md5sum | cut -c1-32)
                echo uuid $(cat /proc/sys/kernel/random/uuid)
                echo boot $(cat /proc/sys/kernel/random/boot_id)
                echo machine $(cat /etc/machine-id 2>/dev/null || hostname)
                echo host $(hostname)
                echo aslr $(grep -m 1 stack /proc/self/maps)
                echo key $(openssl genpkey -algorithm X25519 -outform DER | md5sum)
                perl -e '\(Self.sequences)'
                """
            let image = lab.image.replacing("busybox.tar", with: "engines.tar")
            var sequences: [[UInt32]] = []
            for _ in 0..<count {
                let began = Date()
                let output = try lab.hull(
                    ["run", "--rm"] + Self.shape + [image, "sh", "-c", script + "; touch /now; stat -c 'time %Y %y' /now"])
                let ended = Date()
                #expect(output.code == 0, "\(output.errors)")
                for line in output.lines {
                    let words = line.split(separator: " ", maxSplits: 1).map(String.init)
                    guard words.count == 2 else { continue }
                    if words[0] == "sequences" {
                        sequences.append(words[1].split(separator: " ").compactMap { UInt32($0) })
                    } else if words[0] == "time" {
                        // Whole seconds here; `theClockIsRight` looks closer.
                        let seconds = try #require(words[1].split(separator: " ").first.flatMap { Double($0) })
                        #expect(
                            seconds >= began.timeIntervalSince1970.rounded(.down) - 0.05
                                && seconds <= ended.timeIntervalSince1970 + 0.05)
                    } else {
                        #expect(seen[words[0], default: []].insert(words[1]).inserted, "\(line) came twice")
                    }
                }
            }
            #expect(seen.keys.sorted() == ["aslr", "boot", "host", "key", "machine", "random", "uuid"])
            #expect(seen.values.allSatisfy { $0.count == count })
            // A first sequence number is a secret digest of the addresses and the time. Two machines with one secret would have the same numbers
            // for the same four connections, up to the second between the look at the clock and the connection.
            #expect(sequences.count == count && sequences.allSatisfy { $0.count == 4 })
            for (index, one) in sequences.enumerated() {
                for other in sequences[..<index] {
                    let near = zip(one, other).filter { abs(Int64(Int32(bitPattern: $0 &- $1))) < 1 << 24 }
                    #expect(near.count < 4, "\(one) \(other)")
                }
            }
        }

        /// Prints the first TCP sequence number of each of four connections to itself, less the time, which is part of it (64 ns a step).
        private static let sequences = """
            use Socket;
            sub now { my $b = "\\0" x 16; syscall(228, 0, $b); my ($s, $n) = unpack("qq", $b); return $s * 1000000000 + $n; }
            socket(my $p, 17, SOCK_RAW, 0x0300) or die "packet: $!";
            print "sequences";
            for my $port (4001 .. 4004) {
                socket(my $l, PF_INET, SOCK_STREAM, 0) or die $!;
                bind($l, sockaddr_in($port, INADDR_LOOPBACK)) or die $!;
                listen($l, 1);
                socket(my $c, PF_INET, SOCK_STREAM, 0) or die $!;
                bind($c, sockaddr_in($port + 1000, INADDR_LOOPBACK)) or die $!;
                my $before = now();
                connect($c, sockaddr_in($port, INADDR_LOOPBACK)) or die $!;
                while (1) {
                    recv($p, my $frame, 2048, 0);
                    next unless unpack("x23C", $frame) == 6;
                    my ($from, $to, $number, $flags) = unpack("x34nnNx5C", $frame);
                    next unless $to == $port && ($flags & 0x12) == 2;
                    printf " %d", ($number - ($before >> 6)) & 0xffffffff;
                    last;
                }
            }
            print "\\n";
            """

        /// Within 50 ms of the host's, from the container's first moment.
        @Test func theClockIsRight() throws {
            _ = try build()
            for _ in 0..<3 {
                // The clock is asked last of all before the answer leaves, and the first byte starts the host's watch.
                let before = Date().timeIntervalSince1970
                let output = try lab.hull(["run", "--rm", "--cap-add", "SYS_TIME"] + Self.shape + [lab.image, "adjtimex"])
                let after = Date().timeIntervalSince1970
                func number(_ name: String) throws -> Double {
                    let line = try #require(output.lines.first { $0.contains(name) }, "\(output.text)")
                    return try #require(Double(line.split(separator: ":").last?.split(separator: " ").first ?? ""))
                }
                let time = try number("time.tv_sec") + number("time.tv_usec") / 1_000_000
                #expect(time > before - 0.05 && time < after + 0.05, "\(before) \(time) \(after)")
            }
        }

        @Test func aDamagedTemplateIsReplaced() throws {
            let key = try build()
            for damage in ["state", "memory", "disk-rw", "manifest.json"] {
                let file = "\(store)/\(key)/\(damage)"
                let handle = try #require(FileHandle(forUpdatingAtPath: file))
                try handle.seek(toOffset: 10)
                try handle.write(contentsOf: Data([0, 255, 0]))
                try handle.close()
                let (output, log) = try run("damaged", ["sh", "-c", "exit 3"])
                #expect(output.code == 3, "\(output.errors)")
                #expect(log.contains("the template \(key) is removed, and the machine boots"), "\(log)")
                #expect(try build() == key)
                let (again, quiet) = try run("whole", ["sh", "-c", "exit 3"])
                #expect(again.code == 3 && !quiet.contains("boots"), "\(quiet)")
            }
        }

        /// A template whose files are as they were and which still cannot be loaded: the machine boots all the same.
        @Test func aTemplateThatCannotBeLoadedIsReplaced() throws {
            let key = try build()
            let manifest = "\(store)/\(key)/manifest.json"
            let text = try lab.read(manifest)
            let frequency = try #require(text.firstRange(of: "\"tsc-khz\":\""))
            // A host whose counter runs at another rate.
            try lab.write(
                text.replacingCharacters(in: frequency.upperBound..<text.index(after: frequency.upperBound), with: "9"),
                to: manifest)
            let (output, log) = try run("slow", ["sh", "-c", "exit 3"])
            #expect(output.code == 3, "\(output.errors)")
            #expect(log.contains("time stamp counter"), "\(log)")
        }

        @Test func withoutATemplate() throws {
            let key = try build()
            let used =
                try FileManager.default.attributesOfItem(atPath: "\(store)/\(key)/manifest.json")[.modificationDate] as? Date
            usleep(1_100_000)
            #expect(try lab.hull(["run", "--rm", "--no-template"] + Self.shape + [lab.image, "true"]).code == 0)
            #expect(
                try FileManager.default.attributesOfItem(atPath: "\(store)/\(key)/manifest.json")[.modificationDate] as? Date
                    == used)
            #expect(try lab.hull(["run", "--rm"] + Self.shape + [lab.image, "true"]).code == 0)
            #expect(
                try FileManager.default.attributesOfItem(atPath: "\(store)/\(key)/manifest.json")[.modificationDate] as? Date
                    != used)
        }

        /// Only root may read a machine's memory.
        @Test func nobodyElseReadsThem() throws {
            let key = try build()
            #expect(try lab.host("stat", "-c", "%a %u", store).word == "700 0")
            #expect(try lab.host("sh", "-c", "stat -c '%a %u' \(store)/\(key)/*").lines.allSatisfy { $0 == "600 0" })
        }

        /// The least recently used goes when all together are too big.
        @Test func theOldestGoes() throws {
            let first = try build()
            usleep(1_100_000)
            let output = try lab.hull(
                ["template", "build", "--network", "none", "--memory", "210m"], environment: ["HULL_TEMPLATE_LIMIT": "100"],
                seconds: 200)
            #expect(output.code == 0, "\(output.errors)")
            let left = try lab.good("template", "ls", "-q").lines
            // Others may have been made meanwhile.
            #expect(left.contains(output.word) && !left.contains(first))
        }

        /// Several at once, while the template is taken away and made again.
        @Test func severalAtOnce() throws {
            _ = try build()
            for round in 0..<2 {
                let programs = try (0..<3).map { _ in
                    try Program(try lab.line(["run", "--rm"] + Self.shape + [lab.image, "sh", "-c", "exit 3"]))
                }
                if round == 1 { try lab.good("template", "rm", "--all") }
                for program in programs { #expect(try program.finish(seconds: 120).code == 3) }
            }
        }
    }
}
