// Validates the document on standard input against the schema of its version of OpenAPI.
import { readFileSync } from "node:fs";
import { Validator } from "@seriousme/openapi-schema-validator";

const validator = new Validator();
const { valid, errors } = await validator.validate(JSON.parse(readFileSync(0, "utf8")));
console.log(validator.version, valid ? "valid" : JSON.stringify(errors, null, 2));
