import FoundationEssentials
import Glibc
import LinuxSystem
import Machines
public import Storage

/// The machine that a template is made of, where it may outlive its maker: a note beside what is being made, so that whoever collects that takes
/// the machine away first.
struct TemplateMachine: Codable {
    var hypervisor: String
    var id: String

    private static func file(in folder: String) -> String { "\(folder)/machine.json" }

    func note(in folder: String) throws { try replaceFile(Self.file(in: folder), Array(try JSONEncoder().encode(self))) }

    /// It has ended.
    static func forget(in folder: String) throws {
        guard unlink(file(in: folder)) == 0 || errno == ENOENT else { throw SystemError("remove", file(in: folder)) }
    }

    /// Takes away what is noted in the folder of a maker that is gone.
    @Loop static func reclaim(in folder: String, by drivers: Ledger.Drivers) async throws {
        guard exists(file(in: folder)) else { return }
        let machine = try JSONDecoder().decode(Self.self, from: Data(try readFile(file(in: folder))))
        guard let driver = drivers[machine.hypervisor]?() else {
            throw SandboxError("this program has no driver \"\(machine.hypervisor)\"")
        }
        try await driver.reclaiming?.reclaim(machine.id)
    }
}

extension TemplateStore {
    /// Removes what killed makers and removers left, machines first; nothing while somebody makes one.
    @Loop public func collectLeftovers(by drivers: Ledger.Drivers) async throws {
        try await collectLeftovers { try await TemplateMachine.reclaim(in: $0, by: drivers) }
    }
}
