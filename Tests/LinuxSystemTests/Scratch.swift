import Glibc
import LinuxSystem

/// A folder of a test's own, removed with it.
final class Scratch {
    let path: String

    init() throws {
        path = "/tmp/hull-system-test-\(getpid())-\(UInt32.random(in: 0...(.max)))"
        try makeDirectories(path)
    }

    deinit {
        do {
            try removeTree(path)
        } catch {
            print("left behind: \(error)")
        }
    }

    func file(_ name: String, _ text: String = "") throws -> String {
        try writeFile("\(path)/\(name)", Array(text.utf8), flags: O_WRONLY | O_CREAT | O_TRUNC)
        return "\(path)/\(name)"
    }
}

extension Output {
    var text: String { String(decoding: standardOutput, as: UTF8.self) }
    var lines: [String] { text.split(separator: "\n").map(String.init) }
}
