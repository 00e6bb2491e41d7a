import Glibc
import LinuxSystem

/// What a row works with: an engine, and ways to say what must come of a command. Words are those of the engine's client
/// without its name; `@` is the test image.
@Loop
final class Stage {
    let engine: any Engine
    var site: Site { engine.site }
    /// A folder of the host that the row may fill.
    let scratch: String
    private var used: Set<String> = []

    init(_ engine: any Engine, number: Int) throws {
        self.engine = engine
        scratch = "\(engine.site.folder)/row\(number)"
        try makeDirectories(scratch, mode: 0o755)
    }

    func call(_ line: String, input: [UInt8] = [], seconds: Int = 60) async throws -> Call {
        let words = engine.arguments(line.words)
        used.formUnion(words.prefix(2))
        var call = try await site.run(engine.client + words, environment: engine.environment, input: input, seconds: seconds)
        call.line = "\(engine.kind.rawValue) \(line)"
        return call
    }

    /// A command that must succeed; with `text` its whole output.
    @discardableResult
    func ok(_ line: String, _ text: String? = nil, has part: String? = nil, input: [UInt8] = [], seconds: Int = 60) async throws
        -> String
    {
        let call = try await call(line, input: input, seconds: seconds)
        try check(call, code: 0, text, part, nil)
        return call.text
    }

    /// A command that must end with `code`; `says` is part of what it complains about.
    @discardableResult
    func ends(_ line: String, _ code: Int32, _ text: String? = nil, says: String? = nil, input: [UInt8] = []) async throws -> Call
    {
        let call = try await call(line, input: input)
        try check(call, code: code, text, nil, says)
        return call
    }

    /// A command that must fail in any way.
    func fails(_ line: String, says: String? = nil) async throws {
        let call = try await call(line)
        if call.code == 0 { throw Mismatch(line: call.line, wanted: "a failure", got: "0 \(call.text)") }
        if call.code == 137 { throw Mismatch(line: call.line, wanted: "a failure", got: "nothing in a minute") }
        try check(call, code: call.code, nil, nil, says)
    }

    /// A command that succeeds and says `text` within some seconds, asked again and again: how soon is another thread's affair.
    func becomes(_ line: String, _ text: String? = nil, has part: String? = nil, seconds: Int = 40) async throws {
        let end = ContinuousClock.now + .seconds(seconds)
        while true {
            let call = try await call(line)
            do { return try check(call, code: 0, text, part, nil) } catch {
                if ContinuousClock.now > end { throw error }
                try await sleep(for: .milliseconds(100))
            }
        }
    }

    /// A program of the host, in the engine's namespaces, that must succeed.
    @discardableResult
    func host(_ line: String, _ text: String? = nil, has part: String? = nil, input: [UInt8] = []) async throws -> String {
        let call = try await site.run(line.words, environment: engine.environment, input: input)
        try check(call, code: 0, text, part, nil)
        return call.text
    }

    /// The same as a shell's words, with the client as `$C`.
    @discardableResult
    func shell(_ script: String, _ text: String? = nil, has part: String? = nil, seconds: Int = 60) async throws -> String {
        let client = "C='\(engine.client.joined(separator: " "))'\nI=\(Bench.image)\nS=\(scratch)\n"
        for word in ["network", "volume", "pod", "play", "build"] where script.contains(word) { used.insert(word) }
        var call = try await site.run(["sh", "-c", client + script], environment: engine.environment, seconds: seconds)
        call.line = script
        try check(call, code: 0, text, part, nil)
        return call.text
    }

    func file(_ name: String, _ text: String) throws -> String {
        try writeFile("\(scratch)/\(name)", Array(text.utf8), flags: O_WRONLY | O_CREAT | O_TRUNC)
        chmod("\(scratch)/\(name)", 0o644)
        return "\(scratch)/\(name)"
    }

    /// Runs `body` while the site's `/etc/hull/config.toml` says that of annotations; `$S` in it is the row's folder.
    func configured(_ annotations: String..., body: @Loop () async throws -> Void) async throws {
        let lines = ["[annotations]"] + annotations.map { $0.replacing("$S", with: scratch) }
        let file = try file("config.toml", lines.map { "\($0)\n" }.joined())
        try await shell(
            """
            mkdir -p /run/up; mount -t tmpfs t /run/up; mkdir /run/up/u /run/up/w
            mount -t overlay -o lowerdir=/etc,upperdir=/run/up/u,workdir=/run/up/w o /etc
            mkdir -p /etc/hull; cp \(file) /etc/hull/config.toml
            """)
        do { try await body() } catch {
            try await shell("umount /etc /run/up")
            throw error
        }
        try await shell("umount /etc /run/up")
    }

    func expect(_ holds: Bool, _ line: String, _ wanted: String, _ got: String) throws {
        if !holds { throw Mismatch(line: line, wanted: wanted, got: got) }
    }

    private func check(_ call: Call, code: Int32, _ text: String?, _ part: String?, _ says: String?) throws {
        let got = "\(call.code) “\(call.text.prefix(600))” “\(call.errors.suffix(600))”"
        if call.code != code { throw Mismatch(line: call.line, wanted: "code \(code)", got: got) }
        if let text, call.text != text { throw Mismatch(line: call.line, wanted: "“\(text)”", got: got) }
        if let part, !call.text.contains(part) { throw Mismatch(line: call.line, wanted: "“…\(part)…”", got: got) }
        if let says, !call.errors.contains(says) {
            throw Mismatch(line: call.line, wanted: "a complaint with “\(says)”", got: got)
        }
    }

    /// Removes what the row made; what stays would be the next row's surprise.
    func clear() async throws {
        try await engine.clear(used)
        try removeTree(scratch)
    }
}
