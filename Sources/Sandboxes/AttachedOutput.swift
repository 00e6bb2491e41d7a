import AgentProtocol
import Glibc
import LinuxSystem

/// One output of somebody who is attached. What its reader has not taken yet waits here, so that the log and other readers do not wait
/// for it; when too much waits, the process is held back (`room`).
@Loop
final class AttachedOutput {
    /// Bytes that may wait. Docker lets one megabyte wait for a reader, too, before it holds the container back.
    static let limit = 1 << 20

    private var descriptor: SharedDescriptor?
    private var waiting = ByteQueue()
    private var writer: Task<Void, Never>?
    private var watcher: Task<Void, Never>?
    private let changed = Gate()
    private let whenReaderHasGone: @Loop () -> Void
    /// Bytes that the reader has taken.
    private(set) var written = 0

    /// `descriptor` is non-blocking, or a regular file. `whenReaderHasGone` is called once, when a write says so; with `watches` it
    /// is called without a write, where the reader is at the other end of an unnamed pipe: nobody can come back to that.
    init(_ descriptor: SharedDescriptor, watches: Bool, whenReaderHasGone: @escaping @Loop () -> Void) {
        self.descriptor = descriptor
        self.whenReaderHasGone = whenReaderHasGone
        guard watches, isUnnamedPipe(descriptor.raw) else { return }
        watcher = Task { @Loop [weak self] in
            do { try await hungUp(descriptor.raw) } catch { return }  // nobody wants to know any more
            self?.fail()
        }
    }

    var isOpen: Bool { descriptor != nil }
    var isWriting: Bool { !waiting.isEmpty }

    /// Writes what the reader takes at once; the rest waits.
    func offer(_ bytes: [UInt8]) {
        guard let descriptor else { return }
        var start = 0
        while waiting.isEmpty, start < bytes.count {
            let wrote = bytes.withUnsafeBytes { write(descriptor.raw, $0.baseAddress! + start, $0.count - start) }
            if wrote >= 0 {
                start += wrote
                written += wrote
            } else if errno == EAGAIN {
                break
            } else if errno != EINTR {
                return fail()
            }
        }
        guard start < bytes.count else { return }
        bytes.withUnsafeBytes { waiting.append(UnsafeRawBufferPointer(rebasing: $0[start...])) }
        if writer == nil { writer = Task { @Loop in await self.drain(into: descriptor) } }
    }

    /// Waits until so little waits that more may come.
    func room() async { await wait { $0.waiting.count < Self.limit } }

    /// Waits until nothing waits.
    func flushed() async { await wait { $0.waiting.isEmpty } }

    /// Gives it up; what waits is dropped.
    func end() {
        descriptor = nil
        waiting.removeAll()
        writer?.cancel()
        watcher?.cancel()
        changed.open()
    }

    private func wait(until isDone: (AttachedOutput) -> Bool) async {
        while !isDone(self) {
            do { try await changed.wait() } catch { return }  // cancelled: nobody waits any more
        }
    }

    private func drain(into descriptor: SharedDescriptor) async {
        while isOpen, !waiting.isEmpty {
            do { try await writable(descriptor.raw) } catch { break }  // cancelled by the end
            let wrote = waiting.drain { write(descriptor.raw, $0.baseAddress, $0.count) }
            if wrote >= 0 {
                written += wrote
            } else if errno != EAGAIN, errno != EINTR {
                fail()
            }
            if waiting.count < Self.limit { changed.open() }
        }
        writer = nil
    }

    private func fail() {
        guard isOpen else { return }
        end()
        whenReaderHasGone()
    }
}
