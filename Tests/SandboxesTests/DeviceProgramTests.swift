import OCISpec
import Testing

@testable import Sandboxes

/// Device rules, asked through an interpreter of the few instructions that they become.
@Suite struct DeviceProgramTests {
    typealias Rule = ResourceLimits.DeviceRule

    static let none = Rule(allow: false, access: "rwm")

    /// What the kernel would get: `access` is 1 for making, 2 for reading, 4 for writing.
    static func answer(_ program: [UInt8], _ kind: UInt32, _ major: UInt32, _ minor: UInt32, _ access: UInt32) throws -> Bool {
        if program.isEmpty { return true }
        var registers = [UInt64](repeating: 0, count: 11)
        let context = [access << 16 | kind, major, minor]
        var next = 0
        for _ in 0..<20000 {
            let code = try #require(next * 8 + 8 <= program.count ? program[(next * 8)..<(next * 8 + 8)].map { $0 } : nil)
            let to = Int(code[1] & 15)
            let from = Int(code[1] >> 4)
            let offset = Int(Int16(bitPattern: UInt16(code[2]) | UInt16(code[3]) << 8))
            let value = UInt32(code[4]) | UInt32(code[5]) << 8 | UInt32(code[6]) << 16 | UInt32(code[7]) << 24
            let low = UInt32(truncatingIfNeeded: registers[to])
            next += 1
            switch code[0] {
            case 0x61: registers[to] = UInt64(context[offset / 4])
            case 0xbf: registers[to] = registers[from]
            case 0xb7: registers[to] = UInt64(value)
            case 0x54: registers[to] = UInt64(low & value)
            case 0x74: registers[to] = UInt64(low >> value)
            case 0x16: if low == value { next += offset }
            case 0x56: if low != value { next += offset }
            case 0x95: return registers[0] != 0
            default: Issue.record("unknown instruction \(code)")
            }
        }
        Issue.record("it does not end")
        return false
    }

    @Test func withoutARuleOrWithAllThereIsNoProgram() throws {
        #expect(try DeviceProgram.compile(nil).isEmpty)
        #expect(try DeviceProgram.compile([]).isEmpty)
        #expect(try DeviceProgram.compile([Self.none, Rule(allow: true, access: "rwm")]).isEmpty)
        #expect(try DeviceProgram.compile([Self.none, Rule(allow: true), Rule(allow: true, type: "c", major: 1)]).isEmpty)
        #expect(try !DeviceProgram.compile([Rule(allow: true), Rule(allow: false, type: "b", major: 8, minor: 0)]).isEmpty)
    }

    @Test func theUsualOnesStayAndNodesMayBeMade() throws {
        let program = try DeviceProgram.compile([Self.none])
        #expect(try Self.answer(program, 2, 1, 3, 6))
        #expect(try Self.answer(program, 2, 136, 77, 6))
        #expect(try Self.answer(program, 1, 254, 0, 1))
        #expect(try !Self.answer(program, 1, 254, 0, 2))
        #expect(try !Self.answer(program, 2, 10, 229, 2))
        // What is asked at once is granted by several rules.
        #expect(try Self.answer(program, 2, 1, 3, 7))
        #expect(try !Self.answer(program, 2, 1, 1, 7))
    }

    @Test func theLastRuleWinsForEachRight() throws {
        let rules = [
            Self.none, Rule(allow: true, type: "b", major: 8, access: "rw"),
            Rule(allow: false, type: "b", major: 8, minor: 1, access: "w"),
            Rule(allow: true, type: "c", major: 10, minor: 229, access: "r"),
            Rule(allow: true, type: "c", major: 10, minor: 229, access: "w"),
            Rule(allow: false, type: "c", major: 10, minor: 232),
        ]
        let program = try DeviceProgram.compile(rules)
        #expect(try Self.answer(program, 1, 8, 0, 6))
        #expect(try Self.answer(program, 1, 8, 1, 2))
        #expect(try !Self.answer(program, 1, 8, 1, 4))
        #expect(try !Self.answer(program, 1, 8, 1, 6))
        #expect(try Self.answer(program, 2, 10, 229, 6))
        #expect(try !Self.answer(program, 2, 10, 232, 2))
        #expect(try !Self.answer(program, 2, 8, 0, 2))
    }

    @Test func aDenialOutOfEverything() throws {
        let program = try DeviceProgram.compile([
            Rule(allow: true, type: "a"), Rule(allow: false, type: "b", major: -1, minor: -1, access: "w"),
        ])
        #expect(try Self.answer(program, 2, 4, 64, 6))
        #expect(try Self.answer(program, 1, 8, 0, 3))
        #expect(try !Self.answer(program, 1, 8, 0, 4))
    }

    @Test func whatCannotBeReadIsRefused() {
        for rule in [
            Rule(allow: true, type: "x"), Rule(allow: true, type: "c", major: 1 << 40),
            Rule(allow: true, type: "c", access: "rx"),
        ] { #expect(throws: SandboxError.self) { try DeviceProgram.compile([rule]) } }
        #expect(throws: SandboxError.self) { try DeviceProgram.compile([Rule](repeating: Self.none, count: 1001)) }
    }
}
