// SPDX-FileCopyrightText: stockyard contributors
// SPDX-License-Identifier: GPL-3.0-or-later

import com.github.dockerjava.api.DockerClient;
import com.github.dockerjava.api.async.ResultCallback;
import com.github.dockerjava.api.command.InspectContainerResponse;
import com.github.dockerjava.api.exception.NotFoundException;
import com.github.dockerjava.api.model.Frame;
import com.github.dockerjava.api.model.HostConfig;
import com.github.dockerjava.core.DefaultDockerClientConfig;
import com.github.dockerjava.core.DockerClientImpl;
import com.github.dockerjava.httpclient5.ApacheDockerHttpClient;
import java.io.DataInputStream;
import java.io.File;
import java.io.IOException;
import java.io.OutputStream;
import java.net.Socket;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.newsclub.net.unix.AFUNIXSocket;
import org.newsclub.net.unix.AFUNIXSocketAddress;

/**
 * Calls Docker as the Docker plugin of Jenkins does for agents with the connector "attach": the same calls in the same
 * order, through the same libraries. The remoting protocol is replaced by an echo.
 *
 * <p>Arguments: the URI of Docker, an image, the file that is copied as agent, and the number of agents.
 */
final class DockerCloud {
    private static final String FOLDER = "/home/jenkins";
    private static final String INSTANCE = "com.nirima.jenkins.plugins.docker.JenkinsId";
    private static final String IMAGE = "com.nirima.jenkins.plugins.docker.ContainerImage";
    private static final String NODE = "com.nirima.jenkins.plugins.docker.NodeName";
    private static final String READY = "agent ready\n";
    private static final int BLOCK = 1 << 20;

    private final URI uri;
    private final String image;
    private final File agent;
    private final DockerClient client;

    private DockerCloud(String uri, String image, String agent) {
        this.uri = URI.create(uri);
        this.image = image;
        this.agent = new File(agent);
        var http = new ApacheDockerHttpClient.Builder().dockerHost(this.uri).build();
        var config = DefaultDockerClientConfig.createDefaultConfigBuilder().build();
        client = DockerClientImpl.getInstance(config, http);
    }

    public static void main(String[] arguments) throws Exception {
        DockerCloud cloud = new DockerCloud(arguments[0], arguments[1], arguments[2]);
        int agents = Integer.parseInt(arguments[3]);
        ExecutorService pool = Executors.newFixedThreadPool(agents);
        List<Future<?>> builds = new ArrayList<>();
        for (int number = 1; number <= agents; number++) {
            String name = "docker-" + number;
            builds.add(pool.submit(() -> {
                cloud.build(name);
                return null;
            }));
        }
        for (Future<?> build : builds) {
            build.get();
        }
        pool.shutdown();
        check(cloud.count(true) == 0, "containers are left");
        cloud.client.close();
    }

    /** Provision an agent, run a build, and remove the agent. */
    private void build(String name) throws Exception {
        String id = provision(name);
        launch(id);
        check(count(false) > 0, "the container is not listed");
        commit(id, name);
        log(id);
        client.stopContainerCmd(id).withTimeout(10).exec();
        client.removeContainerCmd(id).withRemoveVolumes(true).exec();
        try {
            client.inspectContainerCmd(id).exec();
            check(false, "the container was not removed");
        } catch (NotFoundException expected) {
            System.out.println("removed " + name);
        }
    }

    /** Create and start the container, as DockerTemplate does. */
    private String provision(String name) throws IOException {
        client.versionCmd().exec();
        client.inspectImageCmd(image).exec();
        count(false);
        Map<String, String> labels = new HashMap<>(Map.of(INSTANCE, "test", IMAGE, image, NODE, name));
        HostConfig limits = new HostConfig()
                .withPortBindings()
                .withPublishAllPorts(false)
                .withPrivileged(false)
                .withNanoCPUs(1_000_000_000L)
                .withMemory(64L << 20);
        String id = client.createContainerCmd(image)
                .withHostConfig(limits)
                .withLabels(labels)
                .withCmd("/bin/sh")
                .withTty(true)
                .withAttachStdin(false)
                .exec()
                .getId();
        client.copyArchiveToContainerCmd(id)
                .withHostResource(agent.getAbsolutePath())
                .withRemotePath(FOLDER)
                .exec();
        client.startContainerCmd(id).exec();
        InspectContainerResponse facts = client.inspectContainerCmd(id).exec();
        check(Boolean.TRUE.equals(facts.getState().getRunning()), "the container does not run");
        check(name.equals(facts.getConfig().getLabels().get(NODE)), "the label is lost");
        return id;
    }

    /** Run the agent, as DockerComputerAttachConnector does, and send data in both directions. */
    private void launch(String id) throws Exception {
        String path = FOLDER + "/" + agent.getName();
        String exec = client.execCreateCmd(id)
                .withAttachStdin(true)
                .withAttachStdout(true)
                .withAttachStderr(true)
                .withTty(false)
                .withCmd("java", "-jar", path, "-noReconnect", "-noKeepAlive", "-agentLog", FOLDER + "/agent.log")
                .exec()
                .getId();
        String version = client.versionCmd().exec().getApiVersion();
        String body = "{ \"Detach\": false, \"Tty\": false }";
        String line = "\n"; // as PrintWriter.println writes it
        String request = "POST /v" + version + "/exec/" + exec + "/start HTTP/1.1" + line
                + "Host: docker.sock" + line
                + "Content-Type: application/json" + line
                + "Upgrade: tcp" + line
                + "Connection: Upgrade" + line
                + "Content-Length: " + body.length() + line
                + line
                + body + line;
        try (Socket socket = AFUNIXSocket.newInstance()) {
            socket.connect(AFUNIXSocketAddress.of(new File(uri.getPath())));
            OutputStream output = socket.getOutputStream();
            output.write(request.getBytes(StandardCharsets.US_ASCII));
            output.flush();
            DataInputStream input = new DataInputStream(socket.getInputStream());
            String status = head(input);
            check(status.startsWith("HTTP/1.1 101 "), status);
            StandardOutput echo = new StandardOutput(input);
            String greeting = new String(echo.read(READY.length()), StandardCharsets.US_ASCII);
            check(READY.equals(greeting), greeting);
            byte[] sent = new byte[BLOCK];
            new Random(1).nextBytes(sent);
            Thread writer = new Thread(() -> write(output, sent));
            writer.start();
            byte[] first = echo.read(1);
            // Docker can take the line end after the body of the request for input of the agent.
            if (first[0] == '\n') {
                first = echo.read(1);
            }
            check(first[0] == sent[0], "the echo begins with " + first[0]);
            byte[] expected = Arrays.copyOfRange(sent, 1, BLOCK);
            check(Arrays.equals(echo.read(BLOCK - 1), expected), "the echo differs");
            writer.join();
        }
        System.out.println("agent of " + id);
    }

    private static void write(OutputStream output, byte[] data) {
        try {
            output.write(data);
            output.flush();
        } catch (IOException error) {
            error.printStackTrace();
        }
    }

    /** Read the head of an answer, and return its first line. */
    private static String head(DataInputStream input) throws IOException {
        StringBuilder text = new StringBuilder();
        while (text.indexOf("\r\n\r\n") < 0) {
            text.append((char) input.readUnsignedByte());
        }
        return text.substring(0, text.indexOf("\r\n"));
    }

    /** The standard output in a multiplexed stream. */
    private static final class StandardOutput {
        private final DataInputStream input;
        private int rest;

        StandardOutput(DataInputStream input) {
            this.input = input;
        }

        byte[] read(int length) throws IOException {
            byte[] data = new byte[length];
            for (int filled = 0; filled < length; ) {
                while (rest == 0) {
                    int stream = input.readUnsignedByte();
                    check(stream == 1, "stream " + stream);
                    input.skipNBytes(3);
                    rest = input.readInt();
                }
                int count = input.read(data, filled, Math.min(rest, length - filled));
                check(count > 0, "the stream ended");
                filled += count;
                rest -= count;
            }
            return data;
        }
    }

    /** Commit the container and remove the image, as DockerJobProperty does after a build. */
    private void commit(String id, String name) {
        String committed = client.commitCmd(id)
                .withRepository("job")
                .withTag(name)
                .withAuthor("Jenkins")
                .withMessage(name)
                .exec();
        client.tagImageCmd(committed, "other", name).withForce().exec();
        client.removeImageCmd(committed).withForce(true).exec();
    }

    /** Read the log before the agent is disconnected, as DockerDelegatingComputerLauncher does. */
    private void log(String id) throws Exception {
        client.logContainerCmd(id)
                .withStdErr(true)
                .withStdOut(true)
                .withTail(100)
                .exec(new ResultCallback.Adapter<Frame>())
                .awaitCompletion();
    }

    /** Count the containers of this Jenkins, as DockerCloud and DockerContainerWatchdog do. */
    private int count(boolean all) {
        var filter = Map.of(INSTANCE, "test");
        return client.listContainersCmd().withShowAll(all).withLabelFilter(filter).exec().size();
    }

    private static void check(boolean condition, String message) {
        if (!condition) {
            throw new IllegalStateException(message);
        }
    }
}
