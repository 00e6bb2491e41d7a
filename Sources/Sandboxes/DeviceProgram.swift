import OCISpec

/// A container's device rules as the program that the guest's kernel asks about every opening and making of a node (bpf(2),
/// BPF_PROG_TYPE_CGROUP_DEVICE). It goes through the rules from the last to the first: each decides of the rights asked for those that no later
/// one has decided.
enum DeviceProgram {
    /// What every container may have on top, as under runc: any node be made, and the usual ones used.
    private static let standard: [ResourceLimits.DeviceRule] =
        [("c", nil, nil, "m"), ("b", nil, nil, "m"), ("c", 136, nil, "rwm")].map {
            .init(allow: true, type: $0, major: $1, minor: $2, access: $3)
        }
        + [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (10, 200)].map {
            .init(allow: true, type: "c", major: $0, minor: $1, access: "rwm")
        }

    /// No engine writes more, and the agent reads so many.
    private static let most = 1000

    /// The program; empty where everything is allowed or no rule is given, as by a plain user's engine. Throws where a rule cannot be read.
    static func compile(_ rules: [ResourceLimits.DeviceRule]?) throws -> [UInt8] {
        guard let rules, !rules.isEmpty else { return [] }
        guard rules.count <= most else {
            throw SandboxError("config.json has \(rules.count) device rules, and at most \(most) are taken", exitCode: 1)
        }
        var program = Instruction.readContext
        var denies = false
        for rule in (rules + standard).reversed() {
            let conditions = try conditions(rule)
            let rights = try rights(rule)
            if conditions.isEmpty, rights == everything {
                return rule.allow && !denies ? [] : (program + Instruction.answer(rule.allow)).flatMap(\.bytes)
            }
            denies = denies || !rule.allow
            let decision = rule.allow ? Instruction.grant(rights) : Instruction.deny(rights)
            for (index, condition) in conditions.enumerated() {
                let rest = conditions.count - index - 1 + decision.count
                program.append(.init(.jumpUnlessEqual, condition.register, jump: Int16(rest), value: condition.value))
            }
            program += decision
        }
        return (program + Instruction.answer(false)).flatMap(\.bytes)
    }

    /// What a rule is about: nothing for all devices.
    private static func conditions(_ rule: ResourceLimits.DeviceRule) throws -> [(register: UInt8, value: Int32)] {
        var found: [(UInt8, Int32)] = []
        switch rule.type {
        case nil, "", "a": break
        case "b": found.append((Instruction.kind, 1))
        case "c", "u": found.append((Instruction.kind, 2))
        default: throw SandboxError("unknown type \"\(rule.type ?? "")\" of a device rule in config.json", exitCode: 1)
        }
        for (register, number) in [(Instruction.major, rule.major), (Instruction.minor, rule.minor)] {
            guard let number, number >= 0 else { continue }
            guard let small = Int32(exactly: number) else {
                throw SandboxError("the device number \(number) in config.json is too large", exitCode: 1)
            }
            found.append((register, small))
        }
        return found
    }

    private static let everything: Int32 = 7

    private static func rights(_ rule: ResourceLimits.DeviceRule) throws -> Int32 {
        guard let access = rule.access, !access.isEmpty else { return everything }
        return try access.reduce(0) {
            guard let right = ["m": 1, "r": 2, "w": 4][$1] as Int32? else {
                throw SandboxError("unknown access \"\(access)\" of a device rule in config.json", exitCode: 1)
            }
            return $0 | right
        }
    }
}

/// One of eBPF's instructions (RFC 9669, 3): those that device rules need.
private struct Instruction {
    enum Code: UInt8 {
        /// A word of what register 1 points to.
        case load = 0x61
        /// 64 bits of another register.
        case copy = 0xbf
        case set = 0xb7
        // 32 bits, with the value.
        case and = 0x54
        case shiftRight = 0x74
        case jumpIfEqual = 0x16
        case jumpUnlessEqual = 0x56
        case exit = 0x95
    }

    /// The registers of what is asked. `asked` are the rights that no rule has decided yet.
    static let kind: UInt8 = 2
    static let asked: UInt8 = 3
    static let major: UInt8 = 4
    static let minor: UInt8 = 5
    private static let scratch: UInt8 = 6

    let bytes: [UInt8]

    init(_ code: Code, _ register: UInt8 = 0, from other: UInt8 = 0, jump: Int16 = 0, value: Int32 = 0) {
        let offset = UInt16(bitPattern: jump)
        let number = UInt32(bitPattern: value)
        bytes =
            [code.rawValue, other << 4 | register, UInt8(truncatingIfNeeded: offset), UInt8(offset >> 8)]
            + (0..<4).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) }
    }

    /// Reads struct bpf_cgroup_dev_ctx (linux/bpf.h): the rights above the kind, major, minor.
    static let readContext = [
        Self(.load, kind, from: 1), Self(.load, major, from: 1, jump: 4), Self(.load, minor, from: 1, jump: 8),
        Self(.copy, asked, from: kind), Self(.shiftRight, asked, value: 16), Self(.and, kind, value: 0xffff),
    ]

    static func answer(_ isYes: Bool) -> [Self] { [Self(.set, value: isYes ? 1 : 0), Self(.exit)] }

    static func grant(_ rights: Int32) -> [Self] {
        [Self(.and, asked, value: ~rights), Self(.jumpUnlessEqual, asked, jump: 2)] + answer(true)
    }

    static func deny(_ rights: Int32) -> [Self] {
        [Self(.copy, scratch, from: asked), Self(.and, scratch, value: rights), Self(.jumpIfEqual, scratch, jump: 2)]
            + answer(false)
    }
}
