// SPDX-License-Identifier: Apache-2.0
// A client of nobody's making but gRPC's own packages and the proto file.
//
//   node client.mjs PROTOS ADDRESS TOKEN_FILE create REQUEST_ID
//   node client.mjs PROTOS ADDRESS TOKEN_FILE watch JOB RESUME_AFTER
//   node client.mjs PROTOS ADDRESS TOKEN_FILE download JOB ARTIFACT TARGET
//   node client.mjs PROTOS ADDRESS TOKEN_FILE upload FILE
//
// Prints one JSON object a line.
import { createHash } from "node:crypto";
import { appendFileSync, existsSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";

// The packages lie where the test has installed them.
const require = createRequire(`${process.env.NODE_PATH}/`);
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [protos, address, tokenFile, command, ...words] = process.argv.slice(2);
const definition = loader.loadSync("dreamsmith/v1/generation.proto", {
  includeDirs: [protos],
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
});
const { GenerationService, UploadService } = grpc.loadPackageDefinition(definition).dreamsmith.v1;
const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${readFileSync(tokenFile, "ascii").trim()}`);
const jobs = new GenerationService(address, grpc.credentials.createInsecure());
const uploads = new UploadService(address, grpc.credentials.createInsecure());

const say = (values) => process.stdout.write(`${JSON.stringify(values)}\n`);
const fail = (error) => {
  say({ error: grpc.status[error.code], details: error.details });
  process.exit(1);
};

const commands = {
  create(requestId) {
    const spec = { prompt: "a red mug", preset: "draft", steps: 400, height_metres: 10 };
    const request = { spec, request_id: requestId };
    jobs.CreateJob(request, metadata, (error, answer) => {
      if (error) fail(error);
      say({ job: answer.job.name, state: answer.job.state });
      process.exit(0);
    });
  },
  watch(name, resumeAfter) {
    const request = { name, resume_after: Number(resumeAfter), without_previews: true };
    const stream = jobs.WatchJob(request, metadata);
    stream.on("data", (event) => say({ sequence: event.sequence, kind: event.event, state: event.job?.state }));
    stream.on("error", fail);
    stream.on("end", () => process.exit(0));
  },
  download(name, artifact, target) {
    const offset = existsSync(target) ? statSync(target).size : 0;
    const request = { name: `${name}/artifacts/${artifact}`, read_offset: offset };
    const stream = jobs.ReadArtifact(request, metadata);
    let described;
    stream.on("data", (piece) => {
      described ??= piece.artifact;
      appendFileSync(target, piece.data);
    });
    stream.on("error", fail);
    stream.on("end", () => {
      const hash = createHash("sha256").update(readFileSync(target)).digest("hex");
      const wanted = Buffer.from(described.sha256).toString("hex");
      say({ size: statSync(target).size, hash, matches: hash === wanted });
      process.exit(0);
    });
  },
  upload(file) {
    const content = readFileSync(file);
    const name = `uploads/${createHash("sha256").update(content).digest("hex")}`;
    const call = uploads.WriteUpload(metadata, (error, answer) => {
      if (error) fail(error);
      say({ upload: answer.upload.name, received: answer.upload.received_bytes });
      process.exit(0);
    });
    for (let offset = 0; offset < content.length; offset += 65536) {
      const data = content.subarray(offset, offset + 65536);
      const first = offset === 0 ? { name, size_bytes: content.length } : {};
      call.write({ ...first, offset, data, crc32c: crc32c(data) });
    }
    call.end();
  },
};

// CRC-32C (Castagnoli), bit by bit: reversed polynomial.
function crc32c(data) {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

commands[command](...words);
