import Glibc
import LinuxSystem
import Testing

/// The checklist under real engines: every row under the control and under hull-runtime.
@Suite(.serialized) struct Checklist {
    @Test(.enabled(if: Bench.canRun(.docker))) func docker() async throws { try await run(.docker) { try await Docker($0) } }
    @Test(.enabled(if: Bench.canRun(.podman))) func podman() async throws { try await run(.podman) { try await Podman($0) } }
    @Test(.enabled(if: Bench.canRun(.containerd))) func containerd() async throws {
        try await run(.containerd) { try await Containerd($0) }
    }
    @Test(.enabled(if: Bench.canRun(.cri))) func kubernetes() async throws { try await run(.cri) { try await Kubernetes($0) } }

    @Loop
    private func run(_ kind: Row.Kind, _ make: @Loop (Runtime) async throws -> any Engine) async throws {
        let rows = Row.all.filter { row in
            row.engines.contains(kind) && (Bench.isWhole || row.short.contains(kind))
                && (Bench.only.map { row.name.contains($0) } ?? true)
        }
        var board = Scoreboard(kind, Bench.runtimes)
        for runtime in Bench.runtimes {
            let engine = try await make(runtime)
            do {
                for (number, row) in rows.enumerated() {
                    let mark = row.machineOnly && !runtime.isMachine ? .notAsked : try await mark(row, engine, number)
                    board.note(row, runtime, mark)
                    if case .failed(let why) = mark { print("\(kind.rawValue), \(runtime.name): \(row.name): \(why)") }
                    fflush(nil)
                }
            } catch {
                Issue.record("\(kind.rawValue) under \(runtime.name): \(error)\n\(engine.words())")
            }
            try await engine.site.remove()
        }
        print(board.text(rows))
        try report(board, rows)
        judge(board, rows)
    }

    @Loop
    private func mark(_ row: Row, _ engine: any Engine, _ number: Int) async throws -> Scoreboard.Mark {
        let stage = try Stage(engine, number: number)
        let start = ContinuousClock.now
        var mark: Scoreboard.Mark
        do {
            try await row.body(stage)
            mark = .passed(ContinuousClock.now - start)
        } catch { mark = .failed("\(error)") }
        do { try await stage.clear() } catch {
            if case .passed = mark { mark = .failed("it leaves what cannot be removed: \(error)") }
        }
        return mark
    }

    /// A runtime must do all that the control does but for the exceptions; the control must do all but what this host forbids.
    private func judge(_ board: Scoreboard, _ rows: [Row]) {
        guard let control = board.runtimes.first else { return }
        for row in rows {
            let forbidden = board.failure(row, control)
            if let forbidden, Exceptions.ofHost[row.name] == nil {
                Issue.record("\(board.kind.rawValue), \(control.name), the control: \(row.name): \(forbidden)")
            }
            for runtime in board.runtimes.dropFirst() where forbidden == nil && Exceptions.ofMachines[row.name] == nil {
                guard let why = board.failure(row, runtime) else { continue }
                Issue.record("\(board.kind.rawValue), \(runtime.name): \(row.name): \(why)")
            }
        }
    }

    /// Writes what failed under others than the control, for whoever mends it.
    private func report(_ board: Scoreboard, _ rows: [Row]) throws {
        guard let path = Bench.report else { return }
        var text = board.text(rows) + "\n"
        for runtime in board.runtimes {
            for row in rows {
                if let why = board.failure(row, runtime) {
                    text += "- \(runtime.name), \(row.noun.rawValue): \(row.name): \(why)\n"
                }
            }
        }
        try writeFile("\(path).\(board.kind.rawValue)", Array(text.utf8), flags: O_WRONLY | O_CREAT | O_TRUNC)
    }
}
