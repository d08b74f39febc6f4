// SPDX-License-Identifier: Apache-2.0

import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.Random;
import java.util.zip.CRC32C;

/** The Java workload of the end-to-end tests: the recorder's protocol, with arrays on the heap as memory. */
public final class Stepper {
    private static final String NAME = System.getenv("NAME");
    private static final String RECORDER = System.getenv("RECORDER");
    private static final long INTERVAL = Long.parseLong(System.getenv("INTERVAL_MS"));
    private static final int CHUNK = 64 << 10;
    private static final int CHUNKS = (Integer.parseInt(System.getenv("MEMORY_MIB")) << 20) / CHUNK;
    private static final int VERIFY = Math.min(64, CHUNKS);
    private static final int TIMEOUT = 1000;
    private static final long PAUSE = 20;

    private final byte[][] ballast = new byte[CHUNKS][CHUNK];
    private final long[] sums = new long[CHUNKS];
    private int touched;
    private int checked;

    private Socket socket;
    private BufferedReader answers;
    private String pod = "";

    public static void main(String[] args) throws Exception {
        new Stepper().run();
    }

    private Stepper() {
        Random random = new Random(1);
        byte[] half = new byte[CHUNK / 2];
        for (int i = 0; i < CHUNKS; i++) {
            random.nextBytes(half);
            System.arraycopy(half, 0, ballast[i], 0, half.length);
            sums[i] = sum(ballast[i]);
        }
    }

    private void run() throws Exception {
        long verified = 0;
        for (long step = 1;; step++) {
            long begin = System.nanoTime();
            String nonce = drawNonce();
            touch(step);
            int bad = verify();
            if (bad >= 0) {
                report(step, nonce, verified, "chunk " + bad + " of the ballast has changed");
                System.exit(1);
            }
            verified += (long) VERIFY * CHUNK;
            report(step, nonce, verified, "");
            long spent = (System.nanoTime() - begin) / 1_000_000;
            Thread.sleep(Math.max(0, INTERVAL - spent));
        }
    }

    private static long sum(byte[] chunk) {
        CRC32C sum = new CRC32C();
        sum.update(chunk);
        return sum.getValue();
    }

    private void touch(long step) {
        ByteBuffer.wrap(ballast[touched]).putLong(step);
        sums[touched] = sum(ballast[touched]);
        touched = (touched + 1) % CHUNKS;
    }

    /** Checks the next chunks; returns the number of one that has changed, or -1. */
    private int verify() {
        for (int n = 0; n < VERIFY; n++) {
            if (sum(ballast[checked]) != sums[checked]) {
                return checked;
            }
            checked = (checked + 1) % CHUNKS;
        }
        return -1;
    }

    /** Reads the kernel's device: a generator in user space would go on alike in two processes of one checkpoint. */
    private static String drawNonce() throws IOException {
        try (FileInputStream device = new FileInputStream("/dev/urandom")) {
            return HexFormat.of().formatHex(device.readNBytes(12));
        }
    }

    private void report(long step, String nonce, long verified, String fault) throws InterruptedException {
        while (true) {
            try {
                attempt(step, nonce, verified, fault);
                return;
            } catch (IOException e) {
                disconnect();
                Thread.sleep(PAUSE);
            }
        }
    }

    private void attempt(long step, String nonce, long verified, String fault) throws IOException {
        if (socket == null) {
            connect();
        }
        String line = String.format(
                "{\"workload\":\"%s\",\"step\":%d,\"nonce\":\"%s\",\"pod\":\"%s\",\"bytes\":%d,\"done\":%d,\"verified\":%d,\"fault\":\"%s\"}\n",
                NAME, step, nonce, pod, (long) CHUNKS * CHUNK, step - 1, verified, fault);
        socket.getOutputStream().write(line.getBytes(StandardCharsets.UTF_8));
        if (!("ok " + nonce).equals(answers.readLine())) {
            throw new IOException("not acknowledged");
        }
    }

    private void connect() throws IOException {
        int colon = RECORDER.lastIndexOf(':');
        Socket fresh = new Socket();
        fresh.connect(new InetSocketAddress(RECORDER.substring(0, colon), Integer.parseInt(RECORDER.substring(colon + 1))), TIMEOUT);
        fresh.setSoTimeout(TIMEOUT);
        answers = new BufferedReader(new InputStreamReader(fresh.getInputStream(), StandardCharsets.UTF_8));
        pod = Files.readString(Path.of("/etc/hostname")).strip();
        socket = fresh;
    }

    private void disconnect() {
        if (socket != null) {
            try {
                socket.close();
            } catch (IOException e) {
                // It is gone either way.
            }
            socket = null;
        }
    }
}
