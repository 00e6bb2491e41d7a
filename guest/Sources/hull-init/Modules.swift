import CGuest

/// Kernel modules of the initramfs, in the order that the host wrote down.
enum BootModules {
    /// The modules' file names.
    static func order() -> [String] {
        Scan.split(TextFile.read("/modules/order"), 10).compactMap { line in
            let words = Scan.words(line)
            guard let name = words.first, name.first != 35 else { return nil }
            return Scan.text(name)
        }
    }

    /// Loads one; what is built in or there already is good.
    static func load(_ name: String) {
        let base = name.utf8.contains(46) ? name : name + ".ko"
        let path = name.utf8.first == 47 ? name : "/modules/" + base
        guard let file = try? Descriptor(path, O_RDONLY) else {  // said on the console: there is no host to tell yet
            console("module \(name) is not in the initramfs")
            return
        }
        let done = guest_init_module(file.number, 0)
        _ = unlink(path)  // the initramfs is memory
        if done < 0, done != -EEXIST { console("module \(name): \(KernelError(-done).words)") }
    }
}
