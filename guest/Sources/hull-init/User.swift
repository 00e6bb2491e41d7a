import AgentProtocol
import CGuest

/// Who a process runs as, looked up in the container's own files (the root is the container's already).
struct User {
    var uid: UInt32 = 0
    var gid: UInt32 = 0
    var groups: [UInt32] = []
    var home = "/"

    /// Resolves `NAME|UID[:GROUP|GID]` as Docker does, and the groups asked for beside.
    init(_ text: String, _ extra: [String]) throws(AgentFailure) {
        let parts = Scan.split(text.utf8, 58)
        let wanted = parts[0].isEmpty ? "0" : Scan.text(parts[0])
        let wantedGroup = parts.count > 1 ? Scan.text(parts[1]) : ""
        let number = Self.id(wanted)
        var name: [UInt8]?
        for line in Scan.split(TextFile.read("/etc/passwd"), 10) {
            let fields = Scan.split(line, 58)
            guard fields.count >= 6, let entry = Self.id(Scan.text(fields[2])) else { continue }
            guard fields[0] == Array(wanted.utf8) || entry == number else { continue }
            name = fields[0]
            uid = entry
            gid = Self.id(Scan.text(fields[3])) ?? 0
            if !fields[5].isEmpty { home = Scan.text(fields[5]) }
            break
        }
        if name == nil {
            guard let number else {
                throw AgentFailure(.userUnknown, "unable to find user \(wanted): no matching entries in passwd file")
            }
            uid = number
        }
        let file = Scan.split(TextFile.read("/etc/group"), 10).map { Scan.split($0, 58) }
        if !wantedGroup.utf8.isEmpty {
            gid = try Self.group(wantedGroup, file)
        } else if let name {
            for fields in file where fields.count >= 4 && Scan.split(fields[3], 44).contains(name) {
                if let group = Self.id(Scan.text(fields[2])), !groups.contains(group) { groups.append(group) }
            }
        }
        for text in extra {
            let group = try Self.group(text, file)
            if !groups.contains(group) { groups.append(group) }
        }
    }

    private static func id(_ text: String) -> UInt32? {
        guard let number = Scan.whole(text), number < UInt64(UInt32.max) else { return nil }
        return UInt32(number)
    }

    private static func group(_ text: String, _ file: [[[UInt8]]]) throws(AgentFailure) -> UInt32 {
        for fields in file where fields.count >= 3 && fields[0] == Array(text.utf8) {
            if let number = id(Scan.text(fields[2])) { return number }
        }
        guard let number = id(text) else {
            throw AgentFailure(.groupUnknown, "unable to find group \(text): no matching entries in group file")
        }
        return number
    }
}
