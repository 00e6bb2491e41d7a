import Glibc
import LinuxSystem
import Netlink

/// The accept rules that Hull needs in the FORWARD chain of others. An accept in Hull's own table does not help where
/// another base chain drops: an accept ends the evaluation of its own base chain only (nft(8), VERDICT STATEMENTS), and
/// dockerd gives FORWARD the policy DROP.
/// What may come into the bridge is still for Hull's own table to say, which drops the rest.
struct ForeignFirewall: Sendable {
    var bridge: String
    /// Nil is the process's own.
    var namespace: NetworkNamespace?

    private var mark: String { "hull \(bridge)" }
    private var firewall: Firewall { Firewall(namespace: namespace) }

    /// Adds the rules where they are missing.
    @Loop
    func open() async throws {
        let chains = Self.forwardChains(try await firewall.ask(["list", "chains"]) ?? "")
        for chain in chains {
            let rules = try await firewall.ask(["-a", "list", "chain"] + chain.words) ?? ""
            if Self.handles(rules, mark: mark).count == 2 { continue }
            var script = removal(chain, rules)
            for side in ["oifname", "iifname"] {
                script +=
                    "insert rule \(chain.words.joined(separator: " ")) \(side) \"\(bridge)\" counter accept comment \"\(mark)\"\n"
            }
            try await firewall.apply(script)
        }
        try await LegacyFirewall(bridge: bridge, namespace: namespace).open()
    }

    /// Removes them wherever they are.
    @Loop
    func close() async throws {
        for chain in Self.forwardChains(try await firewall.ask(["list", "chains"]) ?? "", all: true) {
            let rules = try await firewall.ask(["-a", "list", "chain"] + chain.words) ?? ""
            let script = removal(chain, rules)
            if !script.isEmpty { try await firewall.apply(script) }
        }
        try await LegacyFirewall(bridge: bridge, namespace: namespace).close()
    }

    private func removal(_ chain: Chain, _ rules: String) -> String {
        Self.handles(rules, mark: mark)
            .map { "delete rule \(chain.words.joined(separator: " ")) handle \($0)\n" }.joined()
    }

    /// A chain of iptables-nft's `filter` table.
    struct Chain: Hashable {
        var family: String
        var name: String
        var words: [String] { [family, "filter", name] }
    }

    /// Of what `nft list chains` printed: the chains, as `family table chain`, that drop what is forwarded by default and in which
    /// Hull makes no rules.
    static func droppingChains(_ text: String) -> [String] {
        var found: [String] = []
        var table: [Substring] = []
        var chain = ""
        for line in text.split(separator: "\n") {
            let words = line.split(whereSeparator: \.isWhitespace)
            if words.first == "table", words.count >= 3 { table = Array(words[1...2]) }
            if words.first == "chain", words.count >= 2 { chain = String(words[1]) }
            guard words.first == "type", line.contains("hook forward"), line.contains("policy drop"), table.count == 2,
                table[0] != "bridge", table[0] != "netdev", !(table[1] == "filter" && table[0] != "inet" && chain == "FORWARD")
            else { continue }
            found.append("\(table[0]) \(table[1]) \(chain)")
        }
        return found
    }

    /// Of what `nft list chains` printed: for each family DOCKER-USER, else FORWARD (with `all`, both).
    static func forwardChains(_ text: String, all: Bool = false) -> [Chain] {
        var found: [Chain] = []
        var family: String?
        for line in text.split(separator: "\n") {
            let words = line.split(whereSeparator: \.isWhitespace)
            if words.first == "table" {
                family =
                    words.count == 4 && words[2] == "filter" && (words[1] == "ip" || words[1] == "ip6") ? String(words[1]) : nil
            } else if words.first == "chain", words.count >= 2, let family,
                words[1] == "FORWARD" || words[1] == "DOCKER-USER"
            {
                found.append(Chain(family: family, name: String(words[1])))
            }
        }
        if all { return found }
        return found.filter { chain in
            chain.name == "DOCKER-USER"
                || !found.contains(Chain(family: chain.family, name: "DOCKER-USER"))
        }
    }

    /// The handles of the rules with a comment of `mark`, in what `nft -a list chain` printed.
    static func handles(_ text: String, mark: String) -> [Int] {
        text.split(separator: "\n").compactMap { line in
            guard line.contains("\"\(mark)\"") else { return nil }
            let words = line.split(whereSeparator: \.isWhitespace)
            guard words.count > 2, words[words.count - 2] == "handle" else { return nil }
            return Int(words[words.count - 1])
        }
    }
}

/// The same for the tables of iptables-legacy, which nft does not see. Only its own program changes them.
struct LegacyFirewall: Sendable {
    var bridge: String
    var namespace: NetworkNamespace?

    private struct Family {
        var names: String
        var programs: [String]
    }
    private static let families = [
        Family(names: "ip_tables_names", programs: ["iptables-legacy", "iptables"]),
        Family(names: "ip6_tables_names", programs: ["ip6tables-legacy", "ip6tables"]),
    ]

    @Loop
    func open() async throws {
        for program in try programs() {
            let hasDocker = try await run(program, ["-n", "-L", "DOCKER-USER"])
            let chain = hasDocker ? "DOCKER-USER" : "FORWARD"
            for side in ["-o", "-i"] where try await !run(program, ["-C", chain] + rule(side)) {
                guard try await run(program, ["-I", chain] + rule(side)) else {
                    throw HostNetworkError(
                        .firewall, "let the bridge \(bridge) through the chain \(chain): \(program) refused the rule")
                }
            }
        }
    }

    @Loop
    func close() async throws {
        for program in try programs() {
            for chain in ["DOCKER-USER", "FORWARD"] {
                for side in ["-o", "-i"] {
                    // Until there is none; each call takes one away.
                    while try await run(program, ["-D", chain] + rule(side)) {}
                }
            }
        }
    }

    private func rule(_ side: String) -> [String] {
        [side, bridge, "-m", "comment", "--comment", "hull \(bridge)", "-j", "ACCEPT"]
    }

    /// The programs of the families that have a legacy filter table; it exists only where somebody made it with one.
    private func programs() throws -> [String] {
        func used() throws -> [Family] {
            Self.families.filter { family in
                // /proc/net is the main thread's; this thread may be elsewhere. No file: no legacy tables.
                let names = (try? readText("/proc/thread-self/net/\(family.names)")) ?? ""
                return names.split(separator: "\n").contains("filter")
            }
        }
        let families = try namespace.map { try $0.inside(used) } ?? used()
        return families.compactMap { $0.programs.lazy.compactMap(HostProgram.path).first }
    }

    /// Whether it succeeded.
    @Loop
    private func run(_ program: String, _ arguments: [String]) async throws -> Bool {
        var command = Spawn(program, ["-w", "10"] + arguments)
        command.networkNamespace = namespace?.descriptor
        let ready = command
        return try await withDeadline(.seconds(30), awaiting: "the end of \(program)") {
            try await ready.run().status.isSuccess
        }
    }
}
