"""The samplers: each is a file of this folder and a line of `SAMPLERS`.

In terms of the estimates of the clean latents x0 and of the noise eps, every sampler here is
linear. With abar of the noise schedule, alpha = sqrt(abar), sigma = sqrt(1 - abar), and primes for
the next point of the trajectory:

    DDIM (Song et al. 2021, Eq. 12)       x' = alpha' x0 + sqrt(sigma'^2 - std^2) eps + std z
    Euler (Karras et al. 2022)            x' = x0 + sigma' / alpha' eps                in x / alpha
    Euler ancestral                       x' = x0 + sigma_down eps + sigma_up z        in x / alpha
    DPM-Solver++ 2M (Lu et al. 2022)      x' = (alpha' + k) x0 - k x0_prev + sigma' eps
    Heun (Karras et al. 2022, Alg. 1)     Euler to x', then again from x by the mean of both slopes
    UniPC (Zhao et al. 2023)              x corrected by x0, then x' from it, x0 and earlier ones

Since x0 and eps are linear in the latents and the UNet's output, each evaluation of the UNet is
followed by one linear map of the latents and of what the sampler remembers: a row of scalars, made
in float64 as diffusers' scheduler of the same configuration would, applied in float32
(`mre_jax.diffusion.sampling`). A file has a function from (schedule, num_inference_steps) to that
table, and `SAMPLER`, which names diffusers' class and the options of its file that it supports.
"""

SAMPLERS = {
    "euler_ancestral": "euler_ancestral",
    "euler": "euler",
    "ddim": "ddim",
    "dpmsolver++": "dpmsolver",
    "heun": "heun",
    "unipc": "unipc",
}
"""The module of each sampler by its name; only the one that is used is imported."""
