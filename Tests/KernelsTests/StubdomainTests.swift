import LinuxSystem
import Testing

@testable import Kernels

/// A small ELF file: program headers, and what they point at behind them.
private func elf(_ segments: [(type: UInt32, address: UInt64, memory: UInt64, content: [UInt8])]) -> [UInt8] {
    func bytes(_ value: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) }
    }
    var head: [UInt8] = [0x7F, 0x45, 0x4C, 0x46, 2, 1, 1] + [UInt8](repeating: 0, count: 25)
    head += bytes(64, 8) + [UInt8](repeating: 0, count: 14)
    head += bytes(56, 2) + bytes(UInt64(segments.count), 2) + [UInt8](repeating: 0, count: 6)
    var (table, content): ([UInt8], [UInt8]) = ([], [])
    for segment in segments {
        table += bytes(UInt64(segment.type), 4) + bytes(7, 4) + bytes(UInt64(64 + 56 * segments.count + content.count), 8)
        // A virtual address of a kernel's, which is not where it is loaded.
        table += bytes(0xFFFF_FFFF_8000_0000 &+ segment.address, 8) + bytes(segment.address, 8)
        table += bytes(UInt64(segment.content.count), 8) + bytes(segment.memory, 8) + bytes(1, 8)
        content += segment.content
    }
    return head + table + content
}

@Suite struct DeviceModelKernelTests {
    private let note = KernelELFTests.note("Xen\0", 18, [0x00, 0x05, 0x00, 0x01])

    @Test("A kernel's segments go into a 32-bit file, where they were, with its PVH entry")
    func whole() throws {
        let (text, data): ([UInt8], [UInt8]) = (Array("text".utf8), Array("data!".utf8))
        let made = try #require(
            DeviceModelKernel.make(
                elf([(1, 0x100_0000, 4, text), (1, 0x240_0000, 64, data), (4, 0, UInt64(note.count), note)])))
        func word(_ offset: Int) -> Int { (0..<4).reduce(0) { $0 | Int(made[offset + $1]) << (8 * $1) } }
        #expect(made.starts(with: [0x7F, 0x45, 0x4C, 0x46, 1, 1, 1]))
        // An executable of EM_386, entered where the note says; three program headers behind the head.
        #expect([word(16), word(20), word(24), word(28), word(32)] == [2 | 3 << 16, 1, 0x100_0500, 52, 0])
        #expect([word(40), word(44) & 0xFFFF, word(48)] == [52 | 32 << 16, 3, 0])
        var loads: [[Int]] = []
        for place in [52, 84, 116] {
            let content = Array(made[word(place + 4)..<word(place + 4) + word(place + 16)])
            if word(place) == 4 {
                #expect(content == [4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0] + "Xen\0".utf8 + [0x00, 0x05, 0x00, 0x01, 0, 0, 0, 0])
            } else {
                #expect(content == (loads.isEmpty ? text : data))
                loads.append([word(place), word(place + 8), word(place + 12), word(place + 20)])
            }
        }
        #expect(loads == [[1, 0x100_0000, 0x100_0000, 4], [1, 0x240_0000, 0x240_0000, 64]])
    }

    @Test("What cannot be loaded so is refused")
    func refusals() {
        let text = Array("text".utf8)
        #expect(DeviceModelKernel.make(elf([(1, 0x100_0000, 4, text)])) == nil)
        #expect(DeviceModelKernel.make(elf([(1, 0xFFFF_FFFE, 4, text), (4, 0, UInt64(note.count), note)])) == nil)
        #expect(DeviceModelKernel.make(elf([(1, 0x100_0000, 3, text), (4, 0, UInt64(note.count), note)])) == nil)
        #expect(DeviceModelKernel.make([]) == nil)
        let whole = elf([(1, 0x100_0000, 4, text), (4, 0, UInt64(note.count), note)])
        for count in 0..<whole.count { _ = DeviceModelKernel.make(Array(whole[..<count])) }
        for offset in whole.indices {
            var broken = whole
            broken[offset] = 0xFF
            _ = DeviceModelKernel.make(broken)
        }
    }
}

@Suite struct DynamicELFTests {
    @Test("A program of this host says who loads it and what it needs")
    func program() throws {
        let program = try #require(DynamicELF(try readFile("/bin/sh")))
        #expect(program.interpreter == "/lib64/ld-linux-x86-64.so.2")
        #expect(program.needed == ["libc.so.6"])
        #expect(DynamicELF(Array("#!/bin/sh".utf8)) == nil)
    }

    @Test("Any cut of its head is survived")
    func cuts() throws {
        let whole = try readFile("/bin/sh")
        for count in stride(from: 0, to: min(whole.count, 8192), by: 3) { _ = DynamicELF(Array(whole[..<count])) }
        for offset in 0..<1024 {
            var broken = whole
            broken[offset] = 0xFF
            _ = DynamicELF(broken)
        }
    }
}
