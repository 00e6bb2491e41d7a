import Glibc
import Testing

@testable import Sandboxes

@Suite struct DescriptorGuardTests {
    private let limits = """
        Limit                     Soft Limit           Hard Limit           Units     
        Max processes             1024                 1024                 processes 
        Max open files            20000                20000                files     
        Max locked memory         8388608              8388608              bytes     
        """

    @Test func theLimitIsReadFromTheProcess() throws {
        #expect(try #require(DescriptorGuard(limits: limits)).limit == 20000)
        #expect(DescriptorGuard(limits: "Max processes   1024 1024 processes") == nil)
        #expect(DescriptorGuard(limits: "Max open files   unlimited unlimited files") == nil)
    }

    @Test func looksAreMoreFrequentWhereThereIsLessRoom() throws {
        let small = try #require(DescriptorGuard(limits: limits))
        #expect(small.period == .milliseconds(100))
        let big = try #require(DescriptorGuard(limits: limits.replacing("20000", with: "524288")))
        #expect(big.period > .seconds(2) && big.period < .seconds(3))
        #expect(!small.isCrowded(10_000) && small.isCrowded(10_001))
    }

    @Test func aGuestThatNeedsWhatItKnowsIsAskedLessOften() throws {
        let small = try #require(DescriptorGuard(limits: limits))
        var pause = small.period
        for _ in 0..<10 { pause = small.pause(after: pause, before: 12_000, now: 11_900) }
        #expect(pause == .seconds(2))
        #expect(small.pause(after: pause, before: 12_000, now: 30) == small.period)
    }

    @Test func openFilesAreCounted() throws {
        let before = try #require(DescriptorGuard.openFiles(of: getpid()))
        let held = (0..<50).map { _ in open("/dev/null", O_RDONLY | O_CLOEXEC) }
        defer { for descriptor in held { close(descriptor) } }
        // Other tests open and close files meanwhile.
        #expect(try #require(DescriptorGuard.openFiles(of: getpid())) > before + 20)
        #expect(DescriptorGuard.openFiles(of: -1) == nil)
    }
}
