/** Likelihoods whose names were others in manifests of version 0.1. */
import type { LikelihoodName } from "./types";

export const RENAMED_LIKELIHOODS: Record<string, LikelihoodName> = {
  continuous_bernoulli: "continuous-bernoulli",
  discretised_logistic: "logistic",
};
