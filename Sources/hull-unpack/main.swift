// Reads what others made: layers and trees. Started by Images in namespaces of its own, with descriptors and no paths:
//   hull-unpack digest ALGORITHM…                     files from descriptor 3 on
//   hull-unpack unpack BYTES ENTRIES DIFFID…          into the working directory; descriptors 3… the layers from the bottom up
//   hull-unpack erofs MKFS UUID KIND                     `tree` in the working directory becomes `root.erofs` beside it
// Lines on standard output tell how far it is; an error is one sentence on standard error, its kind the exit code.
import CLinux
import Glibc

func run(_ arguments: [String]) throws(UnpackFailure) {
    switch arguments.first {
    case "digest": try digestFiles(Array(arguments.dropFirst()))
    case "unpack":
        guard arguments.count >= 3, let bytes = UInt64(arguments[1]), let entries = UInt64(arguments[2]) else { fallthrough }
        // Archives declare their names as UTF-8; in another locale libarchive would change them.
        setlocale(LC_CTYPE, "C.UTF-8")
        umask(0)
        try Confinement.enterWorkingDirectory()
        var unpacker = try LayerUnpacker(root: "/", bytes: bytes, entries: entries)
        for (index, digest) in arguments[3...].enumerated() {
            say("layer \(index)")
            do {
                try unpacker.unpack(Int32(3 + index), expected: digest) { say("read \(index) \($0)") }
            } catch {
                say("failed \(index)")
                throw error
            }
            close(Int32(3 + index))
            say("unpacked \(index) \(unpacker.entries) \(unpacker.bytes) \(unpacker.written)")
        }
    case "erofs":
        guard arguments.count == 4 else { fallthrough }
        try Confinement.enterTools()
        // Uncompressed; every inode with a time and wide owners of its own, so that the image does not depend on the moment of its making.
        // More holes than a little: stored by chunks, which leaves them out.
        let command =
            [arguments[1], "-d0", "-U", arguments[2], "-E", "force-inode-extended"]
            + (arguments[3] == "sparse" ? ["--chunksize=4096"] : []) + ["/output/root.erofs", "/source"]
        var argv: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) } + [nil]
        var environment: [UnsafeMutablePointer<CChar>?] = [strdup("PATH=/usr/sbin:/usr/bin:/sbin:/bin"), nil]
        execve(arguments[1], &argv, &environment)
        throw .system("start", Array(arguments[1].utf8))
    default:
        throw UnpackFailure(.system, "hull-unpack is a part of hull and is not for people to call")
    }
}

do {
    try run(Array(CommandLine.arguments.dropFirst()))
} catch {
    var line = Array("\(error.sentence)\n".utf8)
    _ = write(2, &line, line.count)
    exit(error.kind.rawValue)
}
