import Glibc
import LinuxSystem
import Sandboxes

/// `spec`: a config.json to begin with.
enum SpecVerb {
    static func perform(_ words: some Sequence<String>) throws -> Int32 {
        let arguments = try Arguments(words, valued: ["bundle"], plain: ["rootless"], short: ["b": "bundle"])
        let path = "\(absolute(arguments["bundle"] ?? "."))/config.json"
        if exists(path) { throw SandboxError("File config.json exists. Remove it first", exitCode: 1) }
        try writeFile(path, Array(template.utf8), flags: O_WRONLY | O_CREAT | O_EXCL, mode: 0o666)
        return 0
    }

    private static let capabilities = "[\"CAP_AUDIT_WRITE\", \"CAP_KILL\", \"CAP_NET_BIND_SERVICE\"]"

    private static let template = """
        {
        	"ociVersion": "1.0.2",
        	"process": {
        		"terminal": true,
        		"user": {"uid": 0, "gid": 0},
        		"args": ["sh"],
        		"env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        		"cwd": "/",
        		"capabilities": {
        			"bounding": \(capabilities),
        			"effective": \(capabilities),
        			"permitted": \(capabilities)
        		},
        		"rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        		"noNewPrivileges": true
        	},
        	"root": {"path": "rootfs", "readonly": true},
        	"hostname": "hull",
        	"mounts": [
        		{"destination": "/proc", "type": "proc", "source": "proc"},
        		{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        		{"destination": "/dev/pts", "type": "devpts", "source": "devpts",
        			"options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        		{"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
        			"options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        		{"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        		{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        		{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        			"options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
        	],
        	"linux": {
        		"resources": {"devices": [{"allow": false, "access": "rwm"}]},
        		"namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}],
        		"maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
        			"/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
        		"readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        	}
        }

        """
}
