import AgentProtocol
import CGuest

/// The machine's processors, of which some may be kept out of use.
enum Processors {
    private static let folder = "/sys/devices/system/cpu"

    /// Loads what is asked for, then takes the first so many into use and all others out of it.
    static func resize(_ size: MachineSize) throws(AgentFailure) {
        if !size.modules.isEmpty {
            var tree = ModuleTree("/lib/modules/" + TextFile.readLine("/proc/sys/kernel/osrelease"))
            for name in size.modules where !tree.load(name) {
                throw AgentFailure(.resources, "the guest's kernel has no module \(name)")
            }
        }
        guard size.processors > 0 else { return }
        let count = Int(size.processors)
        let there = present
        guard count <= there else {
            throw AgentFailure(.resources, "the machine has \(there) processors, not \(count)")
        }
        for index in 1..<max(there, 1) {
            let file = "\(folder)/cpu\(index)/online"
            let wanted = index < count ? "1" : "0"
            if TextFile.readLine(file) == wanted { continue }
            do throws(KernelError) { try TextFile.write(file, wanted) } catch {
                throw AgentFailure(.resources, "processor \(index): \(error.words)", errno: error.number)
            }
        }
    }

    /// How many there are: "0" or "0-3".
    private static var present: Int {
        let line = TextFile.readLine("\(folder)/present")
        return 1 + Int(truncatingIfNeeded: Scan.number(Scan.split(line.utf8, 45).last ?? []) ?? 0)
    }
}
